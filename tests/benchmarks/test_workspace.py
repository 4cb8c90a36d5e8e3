"""What measurements share: what is kept between runs, and how figures are taken."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from bench.__main__ import MEASUREMENTS
from bench.workspace import kept, percentile


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def nothing(_: Path) -> None:
    """An empty folder will do."""


def test_what_was_made_once_is_not_made_again(cache: Path) -> None:
    made: list[Path] = []
    assert kept("what@1", made.append) == kept("what@1", made.append)
    assert len(made) == 1


def test_a_new_version_replaces_the_older_one(cache: Path) -> None:
    older = kept("what@1", nothing)
    assert kept("what@2", nothing).exists()
    assert not older.exists()


def test_what_fails_while_it_is_made_is_not_kept(cache: Path) -> None:
    def fail(folder: Path) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        kept("what@1", fail)
    assert not [path for path in cache.rglob("*") if path.is_dir() and path.name.startswith(("what", "building"))]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert [percentile([3.0, 1.0, 2.0, 4.0], share) for share in (0, 0.5, 0.99)] == [1.0, 3.0, 4.0]


def test_every_measurement_is_a_module() -> None:
    assert all(find_spec(f"bench.{name}") for name in MEASUREMENTS)
