"""The program's commands as processes: what they print, where, and how they end."""

import contextlib
import gzip
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.e2e.programs import PROGRAM
from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tollkeeper.counters import Tally, tally_of
from tollkeeper.leases import Want
from tollkeeper.usage import Charge
from tollkeeper_cli.__main__ import main
from tollkeeper_ledger.errors import ChainBroken, NoLedger
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.sqlite import SqliteStore

pytestmark = pytest.mark.slow  # each is a process of its own, and half a second

LIMIT = budget()
ACCOUNT = account_of(LIMIT)


def tollkeeper(*arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **environment},
    )  # fmt: skip


def failure(ended: subprocess.CompletedProcess[str], code: int) -> str:
    """What a command said that ended with `code`: one line."""
    assert ended.returncode == code, ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose ledger holds a few usages."""
    return booked(tmp_path, 3)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a small ledger."""
    desk = Desk(booked(tmp_path_factory.mktemp("exported"), 2) / "ledger.db", LIMIT)
    lines = desk.export()
    desk.store.close()
    return lines


def booked(folder: Path, usages: int) -> Path:
    """A folder with a ledger of one lease and some usages."""
    desk = Desk(folder / "ledger.db", LIMIT)
    desk.lease("g", Want(ACCOUNT, 1000, 1000))
    for _ in range(usages):
        desk.charge(record("g", Charge(ACCOUNT, 10, 10)))
    desk.store.close()
    return folder


def test_an_export_verifies(data: Path) -> None:
    exported = tollkeeper("export", "--data-dir", str(data))
    assert exported.returncode == 0
    verified = tollkeeper("verify", "-", stdin=exported.stdout)
    assert (verified.returncode, verified.stdout.split(" ")[:3]) == (0, ["4", "transactions", "verified;"])


def test_a_changed_export_is_a_violation_with_exit_code_3(data: Path) -> None:
    exported = tollkeeper("export", "--data-dir", str(data)).stdout
    changed = tollkeeper("verify", "-", stdin=exported.replace('"amount":10,', '"amount":9,', 1))
    assert failure(changed, 3).startswith(
        "Error: standard input: line 2: transaction 2 was changed; its hash does not fit"
    )


def test_lines_cut_off_at_the_end_are_found_by_the_hash_that_was_told_before(data: Path) -> None:
    whole = tollkeeper("export", "--data-dir", str(data)).stdout.splitlines(keepends=True)
    head = tollkeeper("verify", "-", stdin="".join(whole)).stdout.split()[-1]
    assert tollkeeper("verify", "-", "--through", head, stdin="".join(whole)).returncode == 0
    cut = tollkeeper("verify", "-", "--through", head, stdin="".join(whole[:-1]))
    assert failure(cut, 3).startswith(
        f"Error: standard input: line 3: the chain ends here without having come to {head}"
    )


def test_a_ledger_is_checked_in_place(data: Path) -> None:
    head = tollkeeper("verify", "-", stdin=tollkeeper("export", "--data-dir", str(data)).stdout).stdout
    whole = tollkeeper("verify", "--data-dir", str(data))
    assert (whole.returncode, whole.stdout) == (0, f"{head}1 account is what its entries and leases add up to\n")
    assert tollkeeper("verify", "--through", head.split()[-1], TOLLKEEPER_DATA_DIR=str(data)).stdout == whole.stdout


def test_what_a_gateway_has_settled_and_never_reported_is_told_and_is_no_violation(data: Path) -> None:
    desk = Desk(data / "ledger.db", LIMIT)
    booked_of_it = tally_of([record("g", Charge(ACCOUNT, 10, 10))] * 3)
    for told in (booked_of_it.plus(Tally(2, 1234, 20_000_000)).settled_by("g"), Tally(1).settled_by("h")):
        desk.do(lambda work, told=told: work.count(told, NOW))  # type: ignore[misc]
    desk.store.close()
    checked = tollkeeper("verify", "--data-dir", str(data))
    assert checked.returncode == 0
    assert checked.stdout.splitlines()[-2:] == [
        "gateway g had settled 2 requests more by 2026-11-21 12:00:00 UTC than are booked (1234 tokens, $0.02): they are in its "
        "spool, or lost with it",
        "gateway h had settled 1 request more by 2026-11-21 12:00:00 UTC than are booked (0 tokens, $0.00): they are in its "
        "spool, or lost with it",
    ]


def test_an_export_is_checked_whatever_the_environment_names(data: Path) -> None:
    exported = tollkeeper("export", "--data-dir", str(data)).stdout
    assert tollkeeper("verify", "-", stdin=exported, TOLLKEEPER_DATA_DIR="/nowhere").returncode == 0


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE account_rows SET spent = 0", f"{ACCOUNT}: spent is 0.00 USD in its row, and its entries add up to 0.00000003"),
        ("DELETE FROM transactions WHERE seq > 2", "the chain ends at transaction 2, and rows of requests stand on transac"),
        ("DELETE FROM transactions WHERE seq = 2", "as it would be exported, line 2: transaction 3 stands where 2 belongs"),
        ("UPDATE held SET amount = 1", f"{ACCOUNT}: held is 0.000000001 USD in its row, and its leases add up to 0.00000097"),
    ],
)  # fmt: skip
def test_a_ledger_that_was_changed_by_hand_is_a_violation_that_names_the_first_difference(
    data: Path, statement: str, says: str
) -> None:
    with contextlib.closing(sqlite3.connect(data / "ledger.db")) as file, file:
        file.execute(statement)
    assert failure(tollkeeper("verify", "--data-dir", str(data)), 3).startswith(f"Error: {data / 'ledger.db'}: {says}")


def test_a_ledger_that_is_not_there_is_no_violation(tmp_path: Path) -> None:
    said = failure(tollkeeper("verify", "--data-dir", str(tmp_path)), 1)
    assert said == f"Error: {tmp_path / 'ledger.db'}: there is no ledger; name its folder with --data-dir"


def without_line(number: int) -> Callable[[bytes], bytes]:
    return lambda whole: b"".join(
        line for at, line in enumerate(whole.splitlines(keepends=True), start=1) if at != number
    )


def swapped(whole: bytes) -> bytes:
    first, second, third, *rest = whole.splitlines(keepends=True)
    return b"".join((first, third, second, *rest))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda _: b"", "line 1: there is no transaction"),
        (lambda whole: whole[:-30], "line 4: it is not an exported transaction"),
        (lambda whole: whole[: whole.index(b"\n") + 20], "line 2: it is not an exported transaction"),
        (lambda _: bytes(range(256)) * 100, "line 1: it is not an exported transaction"),
        (lambda _: b"[]\n", "line 1: it is not an exported transaction (its JSON is no object)"),
        (lambda whole: whole + b"\n", "line 5: it is not an exported transaction"),
        (without_line(1), "line 1: transaction 2 stands where 1 belongs"),
        (without_line(3), "line 3: transaction 4 stands where 3 belongs; one was removed or moved"),
        (swapped, "line 2: transaction 3 stands where 2 belongs; one was removed or moved"),
        (
            lambda whole: whole.replace(b'"amount":10,', b'"amount":-60000000000,"amount":10,', 1),
            "line 2: transaction 2 was written anew; a name stands in it twice, or spaces, order or line ends are not",
        ),
        (lambda whole: whole.replace(b'"amount":10,', b'"amount": 10,', 1), "line 2: transaction 2 was written anew"),
        (lambda whole: whole.replace(b"\n", b"\r\n"), "line 1: transaction 1 was written anew"),
        (lambda whole: b" " + whole, "line 1: transaction 1 was written anew"),
        (lambda whole: whole.replace(b'"prev":"0', b'"prev":"\\u0030', 1), "line 1: transaction 1 was written anew"),
        (lambda whole: whole[:-1], "line 4: its line end is missing; the export was cut off"),
        (gzip.compress, "line 1: the file is compressed (gzip); unpack it and verify what comes out"),
        (
            lambda whole: whole.decode().encode("utf-16"),
            "line 1: the file is UTF-16, as Windows PowerShell's > writes; an",
        ),
        (lambda whole: b"\xef\xbb\xbf" + whole, "line 1: the file is text that an editor put a mark in front of; an"),
        (
            lambda whole: whole.replace(b'"seq":2', b'"seq":"2"'),
            "line 2: it is not an exported transaction (its seq is no whole number); the export is damaged",
        ),
        (
            lambda whole: re.sub(rb',"hash":"[0-9a-f]*"', b"", whole),
            "line 1: it is not an exported transaction (it has no hash); the export is damaged",
        ),
        (
            lambda whole: re.sub(rb'"entries":\[[^]]*\]', b'"entries":null', whole),
            "line 1: it is not an exported transaction (its entries are no list); the export is damaged",
        ),
        (
            lambda _: b"{",
            "line 1: it is not an exported transaction (it is no JSON from character 2 on: unexpected end",
        ),
    ],
    ids=[
        "empty",
        "cut in its last line",
        "cut in a line",
        "binary",
        "a list",
        "with an empty line",
        "without its first line",
        "without a line",
        "two lines swapped",
        "with an amount twice",
        "with a space",
        "with another line end",
        "with a space in front",
        "with a letter written otherwise",
        "without its last line end",
        "compressed",
        "in UTF-16",
        "with a mark",
        "with a text for a number",
        "without a hash",
        "without entries",
        "that is no JSON",
    ],
)
def test_a_file_that_is_no_whole_export_is_a_violation_that_names_the_line(
    data: Path, tmp_path: Path, spoil: Callable[[bytes], bytes], says: str
) -> None:
    file = tmp_path / "spoilt.jsonl"
    desk = Desk(data / "ledger.db", LIMIT)
    file.write_bytes(spoil(b"".join(desk.export())))
    desk.store.close()
    assert failure(tollkeeper("verify", str(file)), 3).startswith(f"Error: {file}: {says}")


@given(st.data())
def test_whatever_byte_of_an_export_is_changed_its_line_is_named(exported: list[bytes], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(exported) - 1))
    line = exported[number]
    at, byte = data.draw(st.integers(0, len(line) - 2)), data.draw(st.integers(0, 255))
    assume(line[at] != byte)
    changed = line[:at] + bytes([byte]) + line[at + 1 :]
    with pytest.raises(ChainBroken, match=rf"^line {number + 1}: "):
        verify([*exported[:number], changed, *exported[number + 1 :]])


@pytest.mark.parametrize(("name", "why"), [("missing", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_a_failure_and_no_violation(tmp_path: Path, name: str, why: str) -> None:
    file = tmp_path / name
    assert failure(tollkeeper("verify", str(file)), 1) == (
        f"Error: {file}: it cannot be read ({why}); name a file that `tollkeeper export` wrote"
    )


@pytest.mark.parametrize("command", ["export", "crds"])
def test_a_command_ends_quietly_when_its_reader_has_had_enough(data: Path, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        ended = subprocess.run(
            [PROGRAM, command], stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=60,
            env={**os.environ, "TOLLKEEPER_DATA_DIR": str(data)},
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("command", [("export",), ("crds",), ("--help",), ("export", "--help")])
def test_an_output_that_takes_no_more_is_one_clear_line(data: Path, command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [PROGRAM, *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
            env={**os.environ, "TOLLKEEPER_DATA_DIR": str(data)},
        )  # fmt: skip
    assert failure(ended, 1) == "Error: standard output: No space left on device; make room, or write somewhere else"


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


READING = (
    ("export",),
    ("what-if", "--policies", "."),
    ("reconcile", "usage.csv"),
    ("adjust", "team/monthly", "--amount", "1", "--reason", "x"),
    ("refund", "r1", "--reason", "x"),
)


def notes(file: Path) -> None:
    """A database of somebody else, which is in WAL mode and has a version of its own."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; PRAGMA user_version = 7; CREATE TABLE transactions (body)")


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Path.touch, "it holds no ledger; name its folder with --data-dir"),
        (notes, "it holds no ledger; name its folder with --data-dir"),
        (
            lambda file: file.write_bytes(b"not a database" * 1000),
            "it is no ledger, nor any SQLite database; restore a",
        ),
        (
            lambda file: file.write_bytes(b"SQLite format 3\0" + b"\x10\0\1\1\0\x40\x20\x20" + b"\xff" * 10_000),
            "it is",
        ),
    ],
    ids=["empty", "of somebody else", "no database", "damaged"],
)
def test_a_file_that_is_no_ledger_is_named_and_stays_as_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    make: Callable[[Path], None],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("usage.csv").write_text("id,model,cost\nid-0,gpt-5,1\n")
    Path("policies.yaml").write_text(
        "{apiVersion: tollkeeper.dev/v1alpha1, kind: Tenant, metadata: {name: t}, spec: {displayName: T, level: Team}}"
    )
    data = tmp_path / "data"
    data.mkdir()
    make(data / "ledger.db")
    before = (data / "ledger.db").read_bytes()
    assert main((*command, "--data-dir", str(data))) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"Error: ledger {data}/ledger.db: {says}")
    assert "can be written" not in said
    assert (data / "ledger.db").read_bytes() == before


def test_a_store_makes_a_ledger_in_an_empty_file_and_in_no_database_of_somebody_else(tmp_path: Path) -> None:
    Desk(booked(tmp_path, 1) / "ledger.db", LIMIT).store.close()
    empty, other = tmp_path / "empty.db", tmp_path / "other.db"
    empty.touch()
    SqliteStore(empty).close()
    notes(other)
    before = other.read_bytes()
    with pytest.raises(NoLedger, match="it holds no ledger, but tables of something else"):
        SqliteStore(other)
    assert other.read_bytes() == before


def test_crds_are_all_six_kinds() -> None:
    documents = list(yaml.safe_load_all(tollkeeper("crds").stdout))
    assert sorted(document["spec"]["names"]["kind"] for document in documents) == [
        "PriceBook", "Tenant", "TokenBudget", "TokenGrant", "TokenQuota", "WorkloadGate",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("up", "--colour"),
        ("verify",),
        ("verify", "-", "--through", "0f5b0dd38c6c0a70"),
        ("verify", "-", "--data-dir", "."),
        ("keys", "create"),
        ("keys", "create", "--tenant", "t", "--user", "u", "--delegate"),
        ("keys", "create", "--tenant", ""),
        ("keys", "create", "--tenant", ".."),
        ("keys", "create", "--tenant", "a/b"),
        ("keys", "create", "--tenant", "Über"),
        ("keys", "create", "--tenant", "t", "--user", "a\nb"),
        ("keys", "create", "--tenant", "t", "--assistants", "fine, not fine"),
        ("keys", "revoke", "../x"),
        ("keys", "revoke", ""),
        ("up", "--gateway-port", "65536"),
        ("provider", "--key", "k"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("keys",),
        *(("keys", name) for name in ("create", "list", "revoke")),
        *(
            (name,)
            for name in ("up", "export", "verify", "adjust", "refund", "reconcile", "what-if", "provider", "crds")
        ),
    ],
)
def test_every_command_explains_itself(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main((*command, "--help")) == 0
    assert "Usage: tollkeeper" in capsys.readouterr().out


def test_a_key_that_is_given_for_its_id_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("keys", "revoke", "tk_0123456789ab_secret")) == 2
    said = capsys.readouterr().err
    assert "secret" not in said
    assert "the part between the first two _" in said


def test_help_is_the_same_in_a_locale_without_letters() -> None:
    expected = tollkeeper("up", "--help").stdout
    assert tollkeeper("up", "--help", LANG="C", LC_ALL="C").stdout == expected
    assert "\x1b" not in expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--key", ""), "the key is empty; give one with --key"),
        (("--key", "k", "--prices", "missing.yaml"), "prices missing.yaml: cannot be read: No such file or directory"),
    ],
)
def test_what_a_provider_is_given_is_checked_before_anything_is_tried(
    tmp_path: Path, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(("provider", *arguments, "--book", str(tmp_path / "book"))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize(
    ("kubeconfig", "says"),
    [
        (None, "there is no such file"),
        (b"not: [yaml", "while parsing a flow sequence"),
        (b"\xff\xfe\x00", "codec can't decode"),
        (b"kind: Config", "Expected key current-context"),
    ],
)
def test_a_kubeconfig_that_is_none_is_named(
    tmp_path: Path, kubeconfig: bytes | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kubeconfig"
    if kubeconfig is not None:
        file.write_bytes(kubeconfig)
    assert main(("keys", "list", "--kubeconfig", str(file))) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"Error: no connection from {file}: ")
    assert says in said
    assert said.endswith("name a context with --context, or a file with KUBECONFIG")
