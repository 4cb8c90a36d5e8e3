"""How a transaction's canonical text lies in a database: long ones compressed, for most of a report is said many times.

The chain is of the texts, not of these bytes: hashes, exports and `verify` know nothing of it. Canonical texts begin with
`{`, and zlib's bytes (RFC 1950) never do, so texts of older releases lie beside compressed ones and are read as they are.
"""

import zlib

from tollkeeper_ledger.errors import ChainBroken

LEVEL = 1
"""Higher ones take longer for a few percent."""

SHORT = 1024
"""Up to so many bytes a text is kept as it is."""

_BEGINS = b"{"


def packed(text: bytes) -> bytes:
    """What is stored of a text."""
    return text if len(text) <= SHORT else zlib.compress(text, LEVEL)


def unpacked(stored: bytes) -> bytes:
    """The text that `packed` was given. Raises `ChainBroken` for bytes that no text was packed to."""
    raw = bytes(stored)
    if raw.startswith(_BEGINS):
        return raw
    try:
        return zlib.decompress(raw)
    except zlib.error as error:
        raise ChainBroken(f"a transaction's text is damaged in the database ({error}); restore a good copy") from error
