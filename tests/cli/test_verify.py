"""`tollkeeper verify`: an export, or a ledger itself, whole and spoilt."""

import contextlib
import gzip
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.cli.books import ACCOUNT, LIMIT, booked
from tests.cli.program import failure, tollkeeper
from tests.ledger.builders import NOW, Desk, record
from tollkeeper.counters import Tally, tally_of
from tollkeeper.usage import Charge
from tollkeeper_ledger.errors import ChainBroken
from tollkeeper_ledger.export import verify

pytestmark = pytest.mark.slow  # each is a process of its own


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a small ledger."""
    desk = Desk(booked(tmp_path_factory.mktemp("exported"), 2) / "ledger.db", LIMIT)
    lines = desk.export()
    desk.store.close()
    return lines


def test_an_export_verifies(data: Path) -> None:
    exported = tollkeeper("export", "--data-dir", str(data))
    assert exported.returncode == 0
    verified = tollkeeper("verify", "-", given=exported.stdout)
    assert (verified.returncode, verified.stdout.split(" ")[:3]) == (0, ["4", "transactions", "verified;"])


def test_a_changed_export_is_a_violation_with_exit_code_3(data: Path) -> None:
    exported = tollkeeper("export", "--data-dir", str(data)).stdout
    changed = tollkeeper("verify", "-", given=exported.replace('"amount":10,', '"amount":9,', 1))
    assert failure(changed, 3).startswith(
        "Error: standard input: line 2: transaction 2 was changed; its hash does not fit"
    )


def test_lines_cut_off_at_the_end_are_found_by_the_hash_that_was_told_before(data: Path) -> None:
    whole = tollkeeper("export", "--data-dir", str(data)).stdout.splitlines(keepends=True)
    head = tollkeeper("verify", "-", given="".join(whole)).stdout.split()[-1]
    assert tollkeeper("verify", "-", "--through", head, given="".join(whole)).returncode == 0
    cut = tollkeeper("verify", "-", "--through", head, given="".join(whole[:-1]))
    assert failure(cut, 3).startswith(
        f"Error: standard input: line 3: the chain ends here without having come to {head}"
    )


def test_a_ledger_is_checked_in_place(data: Path) -> None:
    head = tollkeeper("verify", "-", given=tollkeeper("export", "--data-dir", str(data)).stdout).stdout
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
    assert tollkeeper("verify", "-", given=exported, TOLLKEEPER_DATA_DIR="/nowhere").returncode == 0


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
