"""The keys of bodies, as the settings name them: who may read their file (R27)."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.ledger.captures.builders import key
from tollkeeper_cli.capture_keys import warn_of_readers
from tollkeeper_cli.settings import CaptureSettings, KeySource


@pytest.mark.parametrize(("mode", "told"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_file_of_keys_that_others_may_read_is_told(tmp_path: Path, mode: int, told: bool) -> None:
    file = tmp_path / "bodies.keys"
    file.write_text(key("a"))
    file.chmod(mode)
    with capture_logs() as logs:
        warn_of_readers(CaptureSettings(keys=KeySource(file=file)))
    assert [(line["file"], line["mode"]) for line in logs] == ([(str(file), f"{mode:04o}")] if told else [])


@pytest.mark.parametrize("keys", [None, KeySource(env="BODIES_KEYS")])
def test_where_there_is_no_file_there_is_nothing_to_tell(keys: KeySource | None) -> None:
    with capture_logs() as logs:
        warn_of_readers(CaptureSettings(keys=keys))
    assert logs == []
