"""The room itself: where its files may lie, and what Kopf is allowed to do."""

import subprocess
import sys
from pathlib import Path

from tollkeeper_operator.kopf_watch import quiet_settings

ROOT = Path(__file__).parents[2]


def test_the_folder_operator_is_no_package_so_that_the_standard_librarys_operator_stays_importable() -> None:
    assert not list((ROOT / "operator").glob("*.py"))
    asked = "import operator; assert operator.itemgetter(0)('a') == 'a', operator"
    subprocess.run([sys.executable, "-c", asked], cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-m", "tollkeeper_operator.settings"], cwd=ROOT, check=True)


def test_kopf_posts_no_events_and_never_kills_the_process() -> None:
    settings = quiet_settings()
    assert settings.posting.enabled is False
    assert settings.process.ultimate_exiting_timeout is None
    assert settings.queueing.worker_limit is None
