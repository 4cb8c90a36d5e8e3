"""Captures in a store, by somebody with the keys and by somebody without (R27)."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.ledger.captures.builders import DAY, NOON, body, capture, keys
from tollkeeper_ledger.captures.errors import CaptureDamaged, KeyMissing
from tollkeeper_ledger.captures.sqlite import SqliteCaptures
from tollkeeper_ledger.captures.storage import CaptureStore
from tollkeeper_ledger.captures.vault import Vault


def test_a_capture_is_read_as_it_was_kept(store: CaptureStore) -> None:
    vault = Vault(store, keys())
    one = capture(answer=body(b"line\nline\n\xff", content_type="text/plain; charset=latin-1\n"))
    vault.keep([one, capture("r2")])
    assert vault.read("r1", NOON) == one
    assert vault.read("r3", NOON) is None


def test_a_reader_with_other_keys_reads_nothing(store: CaptureStore) -> None:
    """R27."""
    Vault(store, keys("a")).keep([capture()])
    with pytest.raises(
        KeyMissing, match="tenant research, request r1, body of the request: it was encrypted with the key"
    ):
        Vault(store, keys("b")).read("r1", NOON)


def test_after_a_rotation_old_and_new_are_read(store: CaptureStore) -> None:
    Vault(store, keys("a")).keep([capture("old")])
    rotated = Vault(store, keys("ba"))
    rotated.keep([capture("new")])
    assert rotated.read("old", NOON) == capture("old")
    assert Vault(store, keys("b")).read("new", NOON) == capture("new")


@pytest.mark.parametrize(
    "moved",
    [
        {"tenant": "ops"},
        {"request_id": "r2"},
        {"answer": b""},
        {"answer": b"\x01" + b"x" * 40},
        {"expires_at": NOON + 999 * DAY},
        {"captured_at": NOON},
        {"status": 500},
        "swapped",
    ],
)
def test_a_body_in_anothers_place_is_one_clear_error(store: CaptureStore, moved: dict[str, object] | str) -> None:
    """R27."""
    vault = Vault(store, keys())
    vault.keep([capture()])
    found = store.find("r1", NOON)
    assert found is not None
    swapped = {"request": found.answer, "answer": found.request}
    store.delete("r1")
    store.add([replace(found, **(swapped if isinstance(moved, str) else moved))])
    with pytest.raises((CaptureDamaged, KeyMissing)) as refused:
        vault.read(str(moved.get("request_id", "r1")) if isinstance(moved, dict) else "r1", NOON)
    assert "\n" not in str(refused.value)


def test_no_word_of_a_body_stands_in_the_files(tmp_path: Path) -> None:
    """R27."""
    store = SqliteCaptures(tmp_path / "bodies.db")
    Vault(store, keys()).keep([capture(request=body(b"swordfish"), answer=body(b"because", content_type="x/y"))])
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    store.close()
    assert b"research" in files
    assert not any(word in files for word in (b"swordfish", b"because", b"x/y"))
