"""What is remembered of a request's bodies while they pass: their beginnings, within a room that is all given back."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sidecar.builders import NOW
from tollkeeper.captures import Body, KeptBodies
from tollkeeper.patterns import Deadline
from tollkeeper.redactionrules import Redaction
from tollkeeper_sidecar import recording as module
from tollkeeper_sidecar.recording import MARGIN_BYTES, About, Recorded, Recording, Room

AS_THEY_ARE = KeptBodies(timedelta(days=1), Redaction((), ()))
JSON = {"Content-Type": "application/json"}
WORDS = st.lists(st.binary(max_size=40), max_size=8)


def recorded(
    request: bytes,
    parts: Sequence[bytes],
    *,
    most: int = 100,
    room: Room | None = None,
    rules: KeptBodies = AS_THEY_ARE,
    **headers: str,
) -> Recorded | None:
    ended: list[Recorded | None] = []
    recording = Recording(About("r1", "research", NOW, rules), most, room or Room(10**6, 10**6), ended.append)
    recording.asked("application/json", request)
    recording.answers(200, JSON | {name.replace("_", "-"): value for name, value in headers.items()})
    for part in parts:
        recording.add(part)
    recording.end()
    (one,) = ended
    return one


@pytest.fixture(scope="module", autouse=True)
def small_margin() -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MARGIN_BYTES", 40)
        yield 40


@given(st.binary(max_size=200), WORDS, st.integers(1, 150), st.integers(0, 150))
def test_the_beginnings_of_both_bodies_are_kept_and_their_sizes_told(
    request: bytes, parts: list[bytes], more: int, largest: int
) -> None:
    one = recorded(request, parts, most=largest + 40 + more)
    assert one is not None
    capture, answer = one.capture(largest, Deadline(60)), b"".join(parts)
    assert capture.request == Body("application/json", request[:largest], len(request), len(request) > largest)
    assert capture.answer == Body("application/json", answer[:largest], len(answer), len(answer) > largest)
    assert capture.expires_at == NOW + timedelta(days=1)


@given(st.lists(st.tuples(st.binary(max_size=60), WORDS), max_size=8), st.integers(0, 300))
def test_whatever_is_recorded_the_room_is_all_given_back(asked: list[tuple[bytes, list[bytes]]], most: int) -> None:
    room = Room(most, most)
    for request, parts in asked:
        one = recorded(request, parts, room=room)
        if one is not None:
            assert one.taken == len(one.request.content) + len(one.answer.content)
            room.give_back("research", one.taken)
    assert room.take("research", most)
    assert not room.take("research", 1)


def test_where_redaction_shortens_a_body_no_half_of_a_secret_at_its_raw_end_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R27."""
    monkeypatch.setattr(module, "MARGIN_BYTES", MARGIN_BYTES)
    pem = "-----BEGIN PRIVATE KEY-----\n" + "A" * 3000 + "\n-----END PRIVATE KEY-----"
    largest = 8 * 1024
    most = largest + MARGIN_BYTES
    start = json.dumps({"content": f"{pem} " * 8})[:-2].encode()
    body = start.ljust(most - len(b"4111 1111 1")) + b'4111 1111 1111 1111 is my card"}'
    one = recorded(body, [], most=most, rules=KeptBodies(timedelta(days=1), Redaction()))
    assert one is not None
    kept = one.capture(largest, Deadline(60)).request
    assert b"4111" not in kept.content
    assert kept.truncated


def test_a_tenant_takes_no_more_than_its_share_of_the_room() -> None:
    room = Room(100, 40)
    assert [room.take(tenant, 40) for tenant in ("a", "a", "b", "c")] == [True, False, True, False]
    assert not room.is_mostly_free
    room.give_back("a", 40)
    assert room.take("c", 40)


def test_a_request_that_was_never_passed_on_leaves_nothing() -> None:
    ended: list[Recorded | None] = []
    room = Room(100, 100)
    recording = Recording(About("r1", "research", NOW, AS_THEY_ARE), 100, room, ended.append)
    recording.asked("application/json", b"x" * 60)
    recording.end()
    assert ended == []
    assert room.take("research", 100)


@pytest.mark.parametrize(
    ("encoding", "kept"), [("gzip", b""), ("br", b""), ("identity", b"answer"), ("Identity", b"answer")]
)
def test_an_answer_that_cannot_be_read_is_not_kept_and_that_is_told(encoding: str, kept: bytes) -> None:
    one = recorded(b"why", [b"answer"], Content_Encoding=encoding)
    assert one is not None
    assert one.capture(100, Deadline(60)).answer == Body("application/json", kept, 6, truncated=not kept)


def test_a_type_is_no_longer_than_a_type_is() -> None:
    one = recorded(b"", [], Content_Type="text/" + "x" * 1000)
    assert one is not None
    assert len(one.capture(10, Deadline(60)).answer.content_type) == 128
