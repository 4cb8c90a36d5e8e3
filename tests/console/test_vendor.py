"""The files of others are what they were when they were pinned, and what npm published."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tollkeeper_console import vendor


def test_every_vendored_file_is_as_it_was_pinned() -> None:
    assert vendor.changed_files() == []


def test_every_package_comes_with_its_licence() -> None:
    for package in vendor.pinned():
        assert any(file.file.endswith("/LICENSE") for file in package.files), package.name


def test_changed_missing_and_added_files_are_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "vendor"
    shutil.copytree(vendor.ROOT, copy)
    monkeypatch.setattr(vendor, "ROOT", copy)
    assert vendor.changed_files() == []
    (copy / "htmx.org-4.0.1" / "htmx.min.js").write_text("alert(1)")
    (copy / "echarts-6.1.0" / "LICENSE").unlink()
    (copy / "extra.js").write_text("")
    assert vendor.changed_files() == [
        "extra.js: is not in vendor.json",
        "echarts-6.1.0/LICENSE: is missing",
        "htmx.org-4.0.1/htmx.min.js: differs from its pin",
    ]


@pytest.mark.slow
def test_the_vendored_files_are_what_npm_published() -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: apt-get install -y npm")
    done = subprocess.run(
        [sys.executable, "-m", "tollkeeper_console.vendor", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "vendored files are what npm published\n"), done.stderr
