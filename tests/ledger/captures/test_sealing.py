"""Bodies at rest: unreadable without the key, and worth nothing in another's place (R27)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ledger.captures.builders import key, keys
from tollkeeper.errors import InvalidValue
from tollkeeper_ledger.captures.errors import CaptureDamaged, KeyMissing
from tollkeeper_ledger.captures.sealing import parse_keys

ABOUT = ("tenant research", "request r1", "body of the answer")


@given(st.binary(max_size=5000), st.lists(st.text(max_size=10), max_size=4))
def test_a_body_comes_out_as_it_went_in(plain: bytes, about: list[str]) -> None:
    assert keys().unseal(keys().seal(plain, about), about) == plain


def test_nothing_of_a_body_can_be_read_of_its_seal() -> None:
    """R27."""
    sealed = keys().seal(b"the very secret plan", ABOUT)
    assert b"secret" not in sealed
    assert keys().seal(b"the very secret plan", ABOUT) != sealed


def test_a_long_body_is_compressed_first() -> None:
    assert len(keys().seal(b"again and again " * 1000, ABOUT)) < 1000


def test_another_key_opens_nothing_and_is_told_which_one_is_missing() -> None:
    sealed = keys("a").seal(b"plan", ABOUT)
    wanted = repr(keys("a"))[5:-1]
    with pytest.raises(KeyMissing, match=f"encrypted with the key {wanted}, which is not among those of capture.keys"):
        keys("b").unseal(sealed, ABOUT)


def test_the_first_key_seals_and_all_open() -> None:
    old = keys("a").seal(b"old", ABOUT)
    rotated = keys("ba")
    assert rotated.unseal(old, ABOUT) == b"old"
    assert keys("b").unseal(rotated.seal(b"new", ABOUT), ABOUT) == b"new"


@given(st.data())
def test_a_seal_with_any_byte_changed_or_cut_off_does_not_open(data: st.DataObject) -> None:
    sealed = bytearray(keys().seal(b"plan", ABOUT))
    place = data.draw(st.integers(0, len(sealed) - 1))
    if data.draw(st.booleans()):
        sealed[place] ^= data.draw(st.integers(1, 255))
    else:
        del sealed[place:]
    with pytest.raises((CaptureDamaged, KeyMissing)):
        keys().unseal(bytes(sealed), ABOUT)


@pytest.mark.parametrize("place", range(3))
def test_a_seal_that_was_moved_to_another_tenant_request_or_side_does_not_open(place: int) -> None:
    sealed = keys().seal(b"plan", ABOUT)
    elsewhere = [*ABOUT]
    elsewhere[place] = "another"
    with pytest.raises(CaptureDamaged, match="it was changed, or moved here from elsewhere") as refused:
        keys().unseal(sealed, elsewhere)
    assert "another" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it has no key; write 32 random bytes as base64, one key a line"),
        ("# a comment\n\n", "it has no key"),
        ("not base64!", "line 1 is not base64"),
        (f"{key('a')}\nc2hvcnQ=", "line 2 has 5 bytes and not 32"),
        (f"{key('a')}\n{key('a')}", "a key comes twice"),
        ("schlüssel", "line 1 is not base64"),
    ],
)
def test_what_are_no_keys_is_refused_by_its_line_and_not_repeated(text: str, says: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape(says)) as refused:
        parse_keys(text)
    assert "c2hvcnQ" not in str(refused.value)


def test_comments_and_empty_lines_stand_between_keys() -> None:
    parsed = parse_keys(f"# since November\n{key('b')}\n\n  {key('a')}\n")
    assert repr(parsed) == repr(keys("ba"))
    assert key("a") not in repr(parsed)
