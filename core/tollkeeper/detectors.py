"""What personal data and secrets look like: where each kind that redaction knows by name is found in a text. Pure.

What has a check digit is found by it, whatever stands beside it: card numbers (ISO/IEC 7812-1, annex B) and account numbers
(ISO 13616) are looked for among the groups of a longer row of groups, since a date or a word often follows.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Final

from tollkeeper.patterns import spans_of
from tollkeeper.redactionrules import BuiltIn

Span = tuple[int, int]


SECRET_FIELDS: Final = frozenset(
    {
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "secret",
        "clientsecret",
        "apikey",
        "secretkey",
        "accesskey",
        "privatekey",
        "accesstoken",
        "refreshtoken",
        "idtoken",
        "authtoken",
        "bearertoken",
        "authorization",
    }
)
"""Fields whose whole text is a secret, by their names in small letters without `-` and `_`."""

_FILLERS: Final = str.maketrans("", "", "-_ ")

_EMAIL: Final = r"[\pL\pN._%+'-]+@[\pL\pN-]+(?:\.[\pL\pN-]+)+"
_PHONE: Final = (
    r"(?:\+|\b00)[1-9](?:[ ().-]{0,2}[0-9]){6,14}",  # E.164: at most 15 digits
    r"(?:\([2-9][0-9]{2}\) ?|\b[2-9][0-9]{2}[ .-])[0-9]{3}[ .-][0-9]{4}\b",  # North America
)
_SOCIAL: Final = r"\b[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}\b"
_NAMED: Final = (
    r"password|passwd|passphrase|pwd|secret|(?:api|access|private|secret)[ _-]?key|(?:access|refresh|auth)[ _-]?token"
)
_SECRETS: Final = (
    r"(?i)\bbearer +[A-Za-z0-9._~+/-]{20,}=*",  # RFC 6750; fewer letters are words
    r"(?i)\bauthorization[\"']? *[:=] *[\"']?[A-Za-z]+ +[A-Za-z0-9._~+/=-]{8,}",  # RFC 9110, section 11.6.2
    r"\b(?:sk|pk|rk|tk|whsec)[-_][A-Za-z0-9_-]{16,}",  # OpenAI, Anthropic, Stripe, and keys of Tollkeeper
    r"\b(?:gh[pousr]_|github_pat_|glpat-|hf_|xox[abeoprs]-|AIza|npm_|pypi-)[A-Za-z0-9_-]{16,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*",  # JSON Web Tokens: RFC 7519
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",  # RFC 7468; \z: it was cut off
    r"://[^\s/:@]+:[^\s/@]+@",  # who and password in an address: RFC 3986, section 3.2.1
    rf"(?i)\b(?:{_NAMED})[\"']? *(?:=|:|\bis\b) *[\"']?[^\s\"',;\[]{{6,}}",
)
_GROUPS_OF_DIGITS: Final = r"[0-9](?:[ -]?[0-9]){11,}"
_GROUPS_OF_CODE: Final = r"\b[A-Z]{2}[0-9]{2}[A-Z0-9]*(?:[ -][A-Z0-9]+)*\b"
_IP: Final = r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b", r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}"
_ISSUERS: Final = re.compile("3|4|5|6|22[2-9]|2[3-6]|27[01]|2720")
"""How the numbers of cards begin. Those that begin with a year of this century are none."""

_GROUP: Final = re.compile("[A-Z0-9]+")


def names_secret(key: str) -> bool:
    """Whether what stands in a field of this name is a secret, whatever it looks like."""
    return key.translate(_FILLERS).lower() in SECRET_FIELDS


def _by_patterns(*patterns: str) -> Callable[[str], Iterator[Span]]:
    def find(text: str) -> Iterator[Span]:
        for pattern in patterns:
            yield from spans_of(pattern, text)

    return find


def _in_groups(rows: str, longest: int, holds: Callable[[str], bool], text: str) -> Iterator[Span]:
    """Groups that, put together, `holds` takes: of those that begin first the longest, and what comes after them."""
    for start, end in spans_of(rows, text):
        groups = [match.span() for match in _GROUP.finditer(text, start, end)]
        first = 0
        while first < len(groups):
            last = _last_group(groups, first, longest, holds, text)
            if last is None:
                first += 1
                continue
            yield groups[first][0], groups[last][1]
            first = last + 1


def _last_group(groups: list[Span], first: int, longest: int, holds: Callable[[str], bool], text: str) -> int | None:
    found, together = None, ""
    for number in range(first, len(groups)):
        start, end = groups[number]
        if len(together) + end - start > longest:
            break
        together += text[start:end]
        if holds(together):
            found = number
    return found


def _is_card(digits: str) -> bool:
    """Whether these are 12 to 19 digits that begin as payment cards do, and whose last one checks the others."""
    if not 12 <= len(digits) <= 19 or _ISSUERS.match(digits) is None:
        return False
    values = [int(digit) for digit in reversed(digits)]
    return sum(value if place % 2 == 0 else sum(divmod(2 * value, 10)) for place, value in enumerate(values)) % 10 == 0


def _is_account(code: str) -> bool:
    """Whether this is an IBAN: country, check digits by modulus 97, 11 to 30 characters of the account."""
    if not 15 <= len(code) <= 34 or not (code[:2].isalpha() and code[2:4].isdigit()):
        return False
    return int("".join(str(int(letter, 36)) for letter in code[4:] + code[:4])) % 97 == 1


def _addresses(text: str) -> Iterator[Span]:
    for pattern in _IP:
        for start, end in spans_of(pattern, text):
            if _is_address(text[start:end]):
                yield start, end


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


FINDERS: Final[Mapping[BuiltIn, Callable[[str], Iterator[Span]]]] = {
    BuiltIn.EMAIL_ADDRESSES: _by_patterns(_EMAIL),
    BuiltIn.PHONE_NUMBERS: _by_patterns(*_PHONE),
    BuiltIn.CARD_NUMBERS: partial(_in_groups, _GROUPS_OF_DIGITS, 19, _is_card),
    BuiltIn.BANK_ACCOUNTS: partial(_in_groups, _GROUPS_OF_CODE, 34, _is_account),
    BuiltIn.SOCIAL_SECURITY_NUMBERS: _by_patterns(_SOCIAL),
    BuiltIn.SECRETS: _by_patterns(*_SECRETS),
    BuiltIn.IP_ADDRESSES: _addresses,
}
"""Where each kind is found in a text. Spans of a kind may overlap."""
