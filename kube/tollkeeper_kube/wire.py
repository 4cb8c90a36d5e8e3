"""What is sent to the API server, as the text that each of its parsers reads in the same way.

What is applied is read as YAML there, whatever is sent. That JSON is YAML holds but for strings: YAML knows no pairs of
surrogates, so characters beyond the first plane stand as they are; and it takes some characters for line breaks, a byte
order mark or control, and refuses or folds them where they stand as they are, so these are escaped.
"""

import json
import re

from tollkeeper_kube.kinds import Object

_OTHERWISE_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_HALVES = re.compile("[\ud800-\udfff]")
_UNSAYABLE = "\ufffd"


def text_of(body: Object) -> bytes:
    """An object as JSON that is YAML too, in UTF-8. Half a surrogate pair, which no text can have, becomes U+FFFD."""
    text = _HALVES.sub(_UNSAYABLE, json.dumps(body, ensure_ascii=False, separators=(",", ":")))
    return _OTHERWISE_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()
