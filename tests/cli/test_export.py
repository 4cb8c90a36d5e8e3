"""`tollkeeper export`: where its lines go, and what they never take the place of."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tests.cli.books import booked
from tests.cli.program import failure, tollkeeper
from tests.e2e.programs import PROGRAM
from tests.ledger.builders import NOW, policy
from tollkeeper.leases import Authority
from tollkeeper.policy import CurrentPolicy
from tollkeeper_cli.__main__ import main
from tollkeeper_cli.ledgers import SPOOLS
from tollkeeper_sidecar import Gateway, GatewaySettings, Upstream

pytestmark = pytest.mark.slow  # each is a process of its own


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_an_output_file_that_takes_no_more_is_named(data: Path) -> None:
    said = failure(tollkeeper("export", "--data-dir", str(data), "-o", "/dev/full"), 1)
    assert said == "Error: /dev/full: it cannot be written (No space left on device); make room, or name another file"


def test_an_output_file_is_the_whole_export(data: Path) -> None:
    file = data / "ledger.jsonl"
    assert tollkeeper("export", "--data-dir", str(data), "-o", str(file)).returncode == 0
    assert file.read_text() == tollkeeper("export", "--data-dir", str(data)).stdout


def test_an_export_that_fails_leaves_the_file_of_before_and_no_part_of_its_own(tmp_path: Path) -> None:
    data = booked(tmp_path, 100)
    file = data / "ledger.jsonl"
    file.write_text("the export of yesterday\n")
    lowered = "ulimit -f 64; trap '' XFSZ; exec \"$@\""  # KiB: the ledger can be read, the export is larger
    for _ in range(2):
        ended = subprocess.run(
            ["/bin/bash", "-c", lowered, "-", PROGRAM, "export", "--data-dir", data, "-o", file],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert failure(ended, 1) == (
            f"Error: {file}: it cannot be written (File too large); make room, or name another file"
        )
    assert file.read_text() == "the export of yesterday\n"
    assert [path.name for path in data.iterdir() if "jsonl" in path.name] == ["ledger.jsonl"]


def test_an_export_through_a_link_leaves_the_link(data: Path) -> None:
    file, link = data / "ledger.jsonl", data / "link"
    link.symlink_to(file)
    assert tollkeeper("export", "--data-dir", str(data), "-o", str(link)).returncode == 0
    assert link.is_symlink()
    assert file.is_file()


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db-journal", "ledger.db.lock"])
@pytest.mark.parametrize("link", [None, os.symlink, os.link], ids=["itself", "symlink", "hard link"])
def test_an_export_never_takes_the_place_of_the_ledger(
    data: Path, name: str, link: Callable[[Path, Path], None] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (data / "ledger.db").read_bytes()
    output = data / name
    if link:
        output.touch()
        output = data / "out.jsonl"
        link(data / name, output)
    assert main(("export", "--data-dir", str(data), "-o", str(output))) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == (
        f"Error: {output}: it is a file of the ledger {data}/ledger.db that is to be read; name another file with -o"
    )
    assert (data / "ledger.db").read_bytes() == before


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal"])
def test_an_export_takes_the_place_of_no_other_database(
    data: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data / "other"
    booked(other, 1)
    before = (other / "ledger.db").read_bytes()
    assert main(("export", "--data-dir", str(data), "-o", str(other / name))) == 2
    assert f"it is a file of the SQLite database {other}/ledger.db, which would be lost" in capsys.readouterr().err
    assert (other / "ledger.db").read_bytes() == before
    assert not (other / "ledger.db-wal").exists()


def test_an_export_by_a_link_to_the_ledger_spares_the_file_behind_it(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    linked = data / "linked"
    linked.mkdir()
    (linked / "ledger.db").symlink_to(data / "ledger.db")
    assert main(("export", "--data-dir", str(linked), "-o", str(data / "ledger.db-wal"))) == 2
    assert "it is a file of the ledger" in capsys.readouterr().err


def test_an_export_of_nothing_names_the_ledger_that_is_missing(tmp_path: Path) -> None:
    said = failure(tollkeeper("export", "--data-dir", str(tmp_path)), 1)
    assert said == f"Error: {tmp_path}/ledger.db: there is no ledger; name its folder with --data-dir"


@pytest.mark.parametrize("name", ["1.spool", "lock", "2.spool"])
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "through a link"])
def test_an_export_never_takes_the_place_of_what_a_gateway_has_not_reported_yet(
    data: Path, name: str, linked: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = data / SPOOLS / "holder"
    spool.mkdir(parents=True)
    (spool / "1.spool").write_text("usage that is not booked yet\n")
    output = spool / name
    if linked:
        output = data / "out.jsonl"
        output.symlink_to(spool / name)
    assert main(("export", "--data-dir", str(data), "-o", str(output))) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == (
        f"Error: {output}: it lies in {data}/gateway, where gateways keep usage until it is booked; "
        "name another file with -o"
    )
    assert [path.read_text() for path in spool.iterdir()] == ["usage that is not booked yet\n"]


def test_a_gateway_keeps_its_spools_where_no_export_is_written(tmp_path: Path) -> None:
    upstreams = (Upstream("openai", "http://127.0.0.1:9"),)
    authority = cast("Authority", None)  # nobody asks it: the gateway is not started
    gateway = Gateway(GatewaySettings(tmp_path, upstreams), CurrentPolicy(policy()), authority, lambda: NOW)
    assert gateway._folder == tmp_path / SPOOLS
