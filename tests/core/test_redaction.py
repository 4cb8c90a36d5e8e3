"""Redaction of a text: what is found is gone, what is not stays as it is, and once is enough (R27)."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.errors import InvalidValue
from tollkeeper.patterns import Deadline, TookTooLong, check_pattern, spans_of, within
from tollkeeper.redaction import cuts_in, redacted, redacted_each, redacted_pieces
from tollkeeper.redactionrules import UNLESS_STATED, BuiltIn, OwnPattern, Redaction, mask

EVERYTHING = Redaction(tuple(BuiltIn))

FOUND = {
    BuiltIn.EMAIL_ADDRESSES: ["alice@example.com", "o'neil+tag@mail.example.co.uk", "анна@пример.рф"],
    BuiltIn.PHONE_NUMBERS: ["+44 20 7946 0958", "0034 912 345 678", "(212) 555-1234", "212-555-1234", "+12125551234"],
    BuiltIn.CARD_NUMBERS: ["4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005"],
    BuiltIn.BANK_ACCOUNTS: ["DE89370400440532013000", "GB29 NWBK 6016 1331 9268 19"],
    BuiltIn.SOCIAL_SECURITY_NUMBERS: ["078-05-1120"],
    BuiltIn.IP_ADDRESSES: ["192.168.0.1", "2001:db8::8a2e:370:7334"],
    BuiltIn.SECRETS: [
        "sk-proj-abcdefghijklmnop1234",
        "tk_0123456789ab_c2VjcmV0c2VjcmV0",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "Bearer abcdefghijklmnopqrstuvwxyz",
        "Authorization: Basic dXNlcjpwYXNz",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAAAA\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIEow and then it was cut off",
        "password: hunter22",
        "my password is hunter22",
        'api_key="abc123def456"',
        "DB_PASSWORD=hunter2hunter2",
        "POSTGRES_PASSWORD: hunter2hunter2",
        "OPENAI_API_KEY=abcdef123456",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "client_secret=8f14e45fceea",
        "GITHUB_TOKEN=swordfish",
        "next-token: c3dvcmRmaXNo1",
        "userPassword: hunter2hunter2",
        "SharedAccessKey=c3dvcmRmaXNo;",
        "AccountKey=c3dvcmRmaXNoc3dvcmRmaXNo==",
        "password = 'correct horse battery'",
        'secret: "semi;colon, and comma"',
        'password = "a \\" quote of it"',
        "passphrase = `correct horse battery`",
        r"\"password\": \"correct horse battery\"",
        'password = "[correct horse"',
        "redis://:hunter2@host",
        "postgres://u:p@ss@host",
    ],
}
INNOCENT = [
    "The quick brown fox jumps over 13 lazy dogs.",
    "On 2026-11-21 at 12:00:00 the total was 1,234,567.89 for order 1234567890123.",
    "4111111111111112 has a wrong check digit, and so has DE88370400440532013000",
    "basic information for the bearer of this: token = word, secret sauce, passwords matter",
    "def f(a: int) -> dict[str, int]: return {'a': a @ b}",
    "max_tokens: 5, total_tokens=123456 and completion_tokens: 1234567, logprobs: true, max_tokens=100000",
    "key: value, primary_key: customer_number, keyboard: mechanical, tokenizer: cl100k_base4",
    "the token: internationalization; token = tokenizer.encode(text); passwords: matter",
    "see http://localhost:8080/users and https://example.com:443/@me, or a://b c@d",
    "def login(password: str, token: str) -> None: ...",
    "uuid 0191d2a4-7b1c-7000-8000-0123456789ab, sha 9f86d081884c7d659a2feaa0c55ad015",
]
words = st.sampled_from(["", " ", "and ", "é", "\n", "(", ", ", "x", "12 ", "🧮"])
secrets = st.sampled_from([text for kind in UNLESS_STATED for text in FOUND[kind]])


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_each_kind_is_found_and_named_by_its_mask(kind: BuiltIn, text: str) -> None:
    left = redacted(f"before, {text}, after", Redaction((kind,)))
    assert left.startswith("before, ")
    assert mask(kind) in left
    assert text not in left


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_none_of_them_stays_as_it_is(text: str) -> None:
    assert redacted(text, Redaction()) == text


@given(st.lists(st.one_of(words, secrets, st.text(max_size=5)), max_size=12).map("".join))
def test_nothing_that_is_known_by_name_remains_and_once_is_enough(text: str) -> None:
    """R27."""
    left = redacted(text, EVERYTHING)
    assert cuts_in(left, EVERYTHING) == []
    assert redacted(left, EVERYTHING) == left


@given(st.lists(st.tuples(words, secrets), min_size=1, max_size=6))
def test_none_of_several_secrets_is_left_between_words(parts: list[tuple[str, str]]) -> None:
    left = redacted("".join(f" {word} {secret} " for word, secret in parts), EVERYTHING)
    assert not any(secret in left for _, secret in parts)


@given(st.text(alphabet="abcdefg .,!?\nhij", max_size=200))
def test_a_text_without_any_of_them_is_unchanged(text: str) -> None:
    assert redacted(text, EVERYTHING) == text


@given(st.lists(secrets, max_size=3), st.data())
def test_a_secret_is_found_however_its_text_is_cut_into_pieces(found: list[str], data: st.DataObject) -> None:
    text = " and ".join(["so", *found, "on"])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    left = redacted_pieces(pieces, EVERYTHING)
    assert len(left) == len(pieces)
    assert "".join(left) == redacted(text, EVERYTHING)


@given(st.lists(st.one_of(secrets, st.text(max_size=10)), max_size=10))
def test_many_texts_at_once_are_each_redacted_as_by_itself(texts: list[str]) -> None:
    left = redacted_each(texts, EVERYTHING)
    assert [left.get(text, text) for text in texts] == [redacted(text, EVERYTHING) for text in texts]


def test_a_card_is_found_beside_its_date_and_other_numbers() -> None:
    assert redacted("4111 1111 1111 1111 12 27 123", Redaction()) == "[redacted:CardNumbers] 12 27 123"


def test_the_number_of_an_account_is_found_before_a_word_in_capitals() -> None:
    assert redacted("PAY DE89 3704 0044 0532 0130 00 NOW", Redaction()) == "PAY [redacted:BankAccounts] NOW"


def test_a_mask_that_somebody_writes_hides_nothing() -> None:
    text = "[redacted:4111111111111111] [redacted:EmailAddresses]"
    assert redacted(text, Redaction()) == "[redacted:[redacted:CardNumbers]] [redacted:EmailAddresses]"


def test_a_pattern_of_ones_own_is_found_under_its_name() -> None:
    own = Redaction((), (OwnPattern("employee", "EMP-[0-9]{6}"),))
    assert redacted("EMP-123456 and bob@example.com", own) == "[redacted:employee] and bob@example.com"


def test_finds_that_overlap_are_cut_out_as_one() -> None:
    own = Redaction((BuiltIn.EMAIL_ADDRESSES,), (OwnPattern("sentence", "write to [a-z]+"),))
    assert redacted("please write to bob@example.com now", own) == "please [redacted:sentence] now"


def test_half_of_a_pair_of_surrogates_does_not_hide_what_is_beside_it() -> None:
    assert redacted("\ud83d bob@example.com", Redaction()) == "\ud83d [redacted:EmailAddresses]"


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(a", "is not a regular expression that RE2 reads: missing )"),
        (r"a(?=b)", "is not a regular expression that RE2 reads: invalid perl operator"),
        (r"(a)\1", "is not a regular expression that RE2 reads: invalid escape sequence"),
        ("a*", "matches the empty text, so it would be found everywhere: write + for *"),
        (r"a\C", r"has \C, which cuts characters apart: write . instead"),
        ("(a?){1000}b", "has more than 2000 states: lower its repetitions"),
        ("a{1001}", "invalid repetition size"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused_with_the_remedy(pattern: str, says: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape(says)):
        check_pattern(pattern)


def test_no_pattern_that_is_taken_makes_a_text_hang() -> None:
    """Python's own would take longer than the universe for the first of these."""
    for pattern in ("(a+)+b", "(a|aa)+b", "(.*)*b", "(?:a?){30}a{30}b"):
        check_pattern(pattern)
        began = time.monotonic()
        assert list(spans_of(pattern, "a" * 100_000)) == []
        assert time.monotonic() - began < 10


def test_patterns_that_are_found_everywhere_at_great_cost_end_in_time() -> None:
    """Each of a million searches would go through the whole text."""
    own = Redaction((), (OwnPattern("own", "a.*b|a"),))
    began = time.monotonic()
    with within(Deadline(0.2)), pytest.raises(TookTooLong, match=re.escape("the pattern 'a.*b|a' takes too long")):
        redacted("a" * 1_000_000, own)
    assert time.monotonic() - began < 10
    assert redacted("aac", own) == "[redacted:own][redacted:own]c"


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (BuiltIn.BANK_ACCOUNTS, "AA00 " + "A A 0 0 " * 2**17),
        (BuiltIn.CARD_NUMBERS, "4 " * 2**19),
    ],
)
def test_one_row_of_groups_ends_in_time(kind: BuiltIn, row: str) -> None:
    """A row is one find of a pattern, in which each group may begin a number."""
    began = time.monotonic()
    with (
        within(Deadline(0.1)),
        pytest.raises(TookTooLong, match=f"looking for {kind.value}, which is no pattern of the"),
    ):
        redacted(row, Redaction((kind,)))
    assert time.monotonic() - began < 2


def test_one_row_of_groups_takes_time_as_it_is_long() -> None:
    began = time.monotonic()
    redacted("AA00 " + "A A 0 0 " * 2**17, Redaction((BuiltIn.BANK_ACCOUNTS,)))
    assert time.monotonic() - began < 6


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("password = 'correct horse battery' # mine", "[redacted:Secrets] # mine"),
        ('"password": "a; b, c", "name": "x"', '"[redacted:Secrets], "name": "x"'),
        ("redis://:hunter2@host/0", "redis[redacted:Secrets]host/0"),
        ("postgres://u:p@ss@host/db", "postgres[redacted:Secrets]host/db"),
        ("export DB_PASSWORD=hunter2hunter2 LEVEL=debug", "export [redacted:Secrets] LEVEL=debug"),
    ],
)
def test_a_secret_goes_as_a_whole_and_what_is_beside_it_stays(text: str, left: str) -> None:
    assert redacted(text, Redaction()) == left


@pytest.mark.parametrize("address", ["2001:db8::1", "2001:db8:0:0:0:0:0:1", "::1", "fe80::", "2001:db8::"])
@pytest.mark.parametrize("around", ["from {}: refused", "ip:{}", "ip:{}: refused", "[{}]:443", "{}", "{}:"])
def test_an_address_is_found_beside_a_colon(address: str, around: str) -> None:
    assert redacted(around.format(address), EVERYTHING) == around.format("[redacted:IPAddresses]")


def test_times_are_no_addresses() -> None:
    assert redacted("at 12:30:45: done, ratio 1:2:3:", EVERYTHING) == "at 12:30:45: done, ratio 1:2:3:"
