"""Texts of transactions lie compressed in a database, and come out as they went in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper_ledger.bodies import SHORT, packed, unpacked
from tollkeeper_ledger.errors import ChainBroken

texts = st.integers(0, 3 * SHORT).flatmap(lambda size: st.binary(max_size=100).map(lambda some: b"{" + some * size))


@given(texts)
def test_a_text_comes_out_as_it_went_in(text: bytes) -> None:
    assert unpacked(packed(text)) == text
    assert len(packed(text)) <= len(text)


def test_a_text_that_an_older_release_stored_as_it_is_is_read() -> None:
    text = b'{"seq":1}' + b" " * SHORT
    assert unpacked(text) == text


def test_damaged_bytes_are_named() -> None:
    with pytest.raises(ChainBroken, match="damaged in the database"):
        unpacked(packed(b"{" + b"a" * 2 * SHORT)[:-5])
