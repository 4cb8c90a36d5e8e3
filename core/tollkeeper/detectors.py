"""What personal data and secrets look like: where each kind that redaction knows by name is found in a text. Pure.

What has a check digit is found by it, whatever stands beside it: card numbers (ISO/IEC 7812-1, annex B) and account numbers
(ISO 13616) are looked for among the groups of a longer row of groups, since a date or a word often follows.
"""

import re
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import ip_address
from itertools import accumulate, islice
from typing import Final

from tollkeeper.patterns import check_time, spans_of
from tollkeeper.redactionrules import BuiltIn

Span = tuple[int, int]


SECRET_NAMES: Final = (
    *("password", "passwd", "pwd", "passphrase", "secret", "token", "authorization"),
    *("apikey", "secretkey", "accesskey", "accountkey", "authkey", "privatekey", "signingkey", "encryptionkey"),
)
"""How the names of fields end in which everything is a secret, in small letters without `-`, `_` and spaces."""

_LONGEST_NAME: Final = 64
_FILLERS: Final = str.maketrans("", "", "-_ ")

_EMAIL: Final = r"[\pL\pN._%+'-]+@[\pL\pN-]+(?:\.[\pL\pN-]+)+"
_PHONE: Final = (
    r"(?:\+|\b00)[1-9](?:[ ().-]{0,2}[0-9]){6,14}",  # E.164: at most 15 digits
    r"(?:\([2-9][0-9]{2}\) ?|\b[2-9][0-9]{2}[ .-])[0-9]{3}[ .-][0-9]{4}\b",  # North America
)
_SOCIAL: Final = r"\b[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}\b"
_NAMED: Final = (
    r"password|passwd|passphrase|pwd|secret|(?:api|access|account|auth|private|secret|signing|encryption)[ _-]?key"
    r"|(?:access|refresh|auth|bearer)[ _-]?token"
)
_NAMED_FIELD: Final = rf"(?i)[A-Z0-9_-]*(?:{_NAMED})"
_SAYS: Final = r"\\*[\"'`]?[ \t]*[:=]{1,2}>?[ \t]*"
_QUOTED: Final = "|".join(
    rf"{quote}(?:[^{quote}\\\n\[]|\[[^r{quote}\\\n]|\[r[^e{quote}\\\n])(?:[^{quote}\\\n]|\\.){{3,}}{quote}?"
    for quote in "\"'`"
)
"""To the second quote, or the line's end. What begins as a mask does is none: it would be found without end."""

_QUOTED_IN_QUOTES: Final = r"\\+[\"'][^\"'\\\n\[][^\"'\\\n]{3,}"
_WORD: Final = r"[^\s\"',;\[]{6,}"
_TOKENS: Final = rf"(?i)[A-Z0-9_-]*token{_SAYS}\\*[\"'`]?[A-Z0-9._~+/=-]{{8,}}"
"""What is called a token is a secret where it has a digit: other tokens are words."""

_SECRETS: Final = (
    r"(?i)\bbearer +[A-Za-z0-9._~+/-]{20,}=*",  # RFC 6750; fewer letters are words
    r"(?i)\bauthorization[\"']? *[:=] *[\"']?[A-Za-z]+ +[A-Za-z0-9._~+/=-]{8,}",  # RFC 9110, section 11.6.2
    r"\b(?:sk|pk|rk|tk|whsec)[-_][A-Za-z0-9_-]{16,}",  # OpenAI, Anthropic, Stripe, and keys of Tollkeeper
    r"\b(?:gh[pousr]_|github_pat_|glpat-|hf_|xox[abeoprs]-|AIza|npm_|pypi-)[A-Za-z0-9_-]{16,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*",  # JSON Web Tokens: RFC 7519
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",  # RFC 7468; \z: it was cut off
    r"://[^\s/:@\"]*:[^\s/\"]+@",  # who, if anybody, and password in an address: RFC 3986, section 3.2.1
    rf"{_NAMED_FIELD}{_SAYS}(?:{_QUOTED_IN_QUOTES}|{_QUOTED}|{_WORD})",
    rf"(?i)\b(?:{_NAMED})[\"']? +is +[\"']?{_WORD}",
    rf"\b[A-Z0-9_]*_TOKEN[ \t]*=[ \t]*[\"']?{_WORD}",  # a variable of the environment
)
_GROUPS_OF_DIGITS: Final = r"[0-9](?:[ -]?[0-9]){11,}"
_GROUPS_OF_CODE: Final = r"\b[A-Z]{2}[0-9]{2}[A-Z0-9]*(?:[ -][A-Z0-9]+)*\b"
_IP: Final = r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b", r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,9}"
_ISSUERS: Final = re.compile("3|4|5|6|22[2-9]|2[3-6]|27[01]|2720")
"""How the numbers of cards begin. Those that begin with a year of this century are none."""

_DIGIT: Final = re.compile("[0-9]")
_ACCOUNT: Final = re.compile("[A-Z]{2}[0-9]{2}")
_BEFORE_COUNTRY: Final = pow(10**6, -1, 97)
"""Two letters and two digits are six digits: what is before them counts so many times."""

_GROUP: Final = re.compile("[A-Z0-9]+")

GROUPS_AT_ONCE: Final = 4096
"""Looked at before somebody looks whether the time is over."""


def names_secret(key: str) -> bool:
    """Whether what stands in a field of this name is a secret, whatever it looks like."""
    return _ends_as_a_secret(key[-_LONGEST_NAME:])


@lru_cache(maxsize=4096)
def _ends_as_a_secret(name: str) -> bool:
    return name.translate(_FILLERS).lower().endswith(SECRET_NAMES)


def _by_patterns(kind: BuiltIn, *patterns: str) -> Callable[[str], Iterator[Span]]:
    def find(text: str) -> Iterator[Span]:
        for pattern in patterns:
            yield from spans_of(pattern, text, _search(kind))

    return find


def _secrets(text: str) -> Iterator[Span]:
    yield from _by_patterns(BuiltIn.SECRETS, *_SECRETS)(text)
    for start, end in spans_of(_TOKENS, text, _search(BuiltIn.SECRETS)):
        if _DIGIT.search(text, start, end):
            yield start, end


def _search(kind: BuiltIn) -> str:
    return f"looking for {kind.value}"


@dataclass(frozen=True, slots=True)
class _Row:
    """Groups as one: their `characters`, where each begins in them and in the text, and by ends in them those in the text."""

    characters: str
    begins: list[Span]
    ends: "array[int]"


def _row(text: str, start: int, end: int) -> _Row:
    characters = text[start:end].replace(" ", "").replace("-", "")
    ends = array("q", bytes(8 * (len(characters) + 1)))
    begins: list[Span] = []
    at = 0
    for match in _GROUP.finditer(text, start, end):
        begin, until = match.span()
        begins.append((at, begin))
        at += until - begin
        ends[at] = until
    return _Row(characters, begins, ends)


def _in_groups(
    kind: BuiltIn, rows: str, ends_of: Callable[[_Row], Callable[[int], Iterator[int]]], text: str
) -> Iterator[Span]:
    """Groups that are a number together: of those that begin first the longest, and what comes after them.

    `ends_of` a row tells where a number may end in its characters that begins at a place, the longest first. Each looks at no
    more than a number is long, so that a row takes time as it has groups.
    """
    for start, end in spans_of(rows, text, _search(kind)):
        row = _row(text, start, end)
        numbers = ends_of(row)
        done = start
        for number, (at, begin) in enumerate(row.begins):
            if number % GROUPS_AT_ONCE == 0:
                check_time(_search(kind))
            if begin >= done and (last := next((row.ends[one] for one in numbers(at) if row.ends[one]), None)):
                yield begin, last
                done = last


def _cards(row: _Row) -> Callable[[int], Iterator[int]]:
    """12 to 19 digits that begin as payment cards do, and whose last one checks the others.

    Every second digit counts twice, seen from the last one: `sums` has both ways to count, summed up to each place.
    """
    digits = [int(digit) for digit in row.characters]
    twice = [sum(divmod(2 * digit, 10)) for digit in digits]
    alternating = ([twice, digits], [digits, twice])
    sums = [
        list(accumulate((ways[place % 2][place] for place in range(len(digits))), initial=0)) for ways in alternating
    ]

    def ends(at: int) -> Iterator[int]:
        if _ISSUERS.match(row.characters, at) is None:
            return
        for end in range(min(at + 19, len(digits)), at + 11, -1):
            if row.ends[end] and (sums[end % 2][end] - sums[end % 2][at]) % 10 == 0:
                yield end

    return ends


def _accounts(row: _Row) -> Callable[[int], Iterator[int]]:
    """IBANs: country, check digits by modulus 97, 11 to 30 characters of the account.

    The account stands before country and check digits when it is checked, so what is left of it says what these have to be.
    """
    values = [int(letter, 36) for letter in row.characters]

    def ends(at: int) -> Iterator[int]:
        head = _ACCOUNT.match(row.characters, at)
        if head is None:
            return
        checked = int("".join(str(value) for value in values[at : at + 4]))
        wanted = (1 - checked) * _BEFORE_COUNTRY % 97
        found: list[int] = []
        left = 0
        for end, value in enumerate(values[at + 4 : at + 34], at + 5):
            left = (left * (10 if value < 10 else 100) + value) % 97
            if left == wanted and end >= at + 15 and row.ends[end]:
                found.append(end)
        yield from reversed(found)

    return ends


def _addresses(text: str) -> Iterator[Span]:
    for pattern in _IP:
        for start, end in spans_of(pattern, text, _search(BuiltIn.IP_ADDRESSES)):
            yield from islice(
                (span for span in _without_colons(text, start, end) if _is_address(text[slice(*span)])), 1
            )


def _without_colons(text: str, start: int, end: int) -> Iterator[Span]:
    """A place of a text as it is, then without the colons of the words beside it: `ip:2001:db8::1: refused`."""
    first = start + (text[start] == ":")
    last = end - (text[end - 1] == ":")
    yield from dict.fromkeys(((start, end), (first, end), (start, last), (first, last)))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


FINDERS: Final[Mapping[BuiltIn, Callable[[str], Iterator[Span]]]] = {
    BuiltIn.EMAIL_ADDRESSES: _by_patterns(BuiltIn.EMAIL_ADDRESSES, _EMAIL),
    BuiltIn.PHONE_NUMBERS: _by_patterns(BuiltIn.PHONE_NUMBERS, *_PHONE),
    BuiltIn.CARD_NUMBERS: partial(_in_groups, BuiltIn.CARD_NUMBERS, _GROUPS_OF_DIGITS, _cards),
    BuiltIn.BANK_ACCOUNTS: partial(_in_groups, BuiltIn.BANK_ACCOUNTS, _GROUPS_OF_CODE, _accounts),
    BuiltIn.SOCIAL_SECURITY_NUMBERS: _by_patterns(BuiltIn.SOCIAL_SECURITY_NUMBERS, _SOCIAL),
    BuiltIn.SECRETS: _secrets,
    BuiltIn.IP_ADDRESSES: _addresses,
}
"""Where each kind is found in a text. Spans of a kind may overlap."""
