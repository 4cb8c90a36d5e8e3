"""Server-sent events keep their bytes and their borders, wherever the bytes are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper_sidecar.sse import LARGEST_EVENT_BYTES, EventSplitter, EventTooLarge, data_of

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.one_of(st.sampled_from([b": ping", b"event: message", b"data: [DONE]"]), st.just(b'data: {"a": "\xc3\xa9"}'))


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream, and its events. One stream keeps to one kind of line end, as the standard's writers do."""
    end = draw(ENDS)
    events = [
        b"".join(line + end for line in lines) + end
        for lines in draw(st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=5))
    ]
    return b"".join(events), events


@given(streams(), st.data())
def test_the_cuts_do_not_matter(stream: tuple[bytes, list[bytes]], data: st.DataObject) -> None:
    whole, events = stream
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=12)) | {0, len(whole)})
    splitter = EventSplitter()
    found = [e for start, stop in itertools.pairwise(cuts) for e in splitter.feed(whole[start:stop])]
    if rest := splitter.rest():
        found.append(rest)
    assert found == events


@given(st.lists(st.binary(max_size=20)))
def test_no_byte_is_lost_or_changed(pieces: list[bytes]) -> None:
    splitter = EventSplitter()
    out = b"".join(event for piece in pieces for event in splitter.feed(piece)) + splitter.rest()
    assert out == b"".join(pieces)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"data: a\r\n\r\n", b"a"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"event: x\ndata: a\nid: 7\n\n", b"a"),
        (b": ping\n\n", b""),
        (b"data: a\nid: 7", b"a"),
    ],
)
def test_data_is_read_from_its_lines(event: bytes, data: bytes) -> None:
    assert data_of(event) == data


def test_an_event_without_end_is_not_collected_forever() -> None:
    splitter = EventSplitter()
    with pytest.raises(EventTooLarge):
        splitter.feed(b"data: " + b"x" * LARGEST_EVENT_BYTES)
