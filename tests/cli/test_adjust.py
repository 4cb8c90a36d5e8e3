"""`tollkeeper adjust` and `refund`, beside a process that owns the ledger and alone."""

import asyncio
import os
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from tests.cli.program import beside, tollkeeper
from tests.ledger.builders import Desk, account_of, budget, policy, record
from tollkeeper.amounts import Unit
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.limits import Dimension, Enforcement, LimitRef
from tollkeeper.policy import CurrentPolicy
from tollkeeper.usage import Charge
from tollkeeper_cli import control, control_server
from tollkeeper_cli.__main__ import main
from tollkeeper_cli.operations import perform
from tollkeeper_ledger.errors import LedgerInUse
from tollkeeper_ledger.reader import SqliteReader
from tollkeeper_ledger.sqlite import SqliteStore
from tollkeeper_webhook.authority import LedgerAuthority

NOW = datetime.now(UTC)
LIMIT = budget(allocation=10**10)
PER_USER = budget("users", 5000, unit=Unit.TOKENS, per=(Dimension.USER,), enforcement=Enforcement.SOFT)
ACCOUNT = account_of(LIMIT, NOW)
ALICES = PER_USER.account_at(("alice",), NOW)[0].text


@pytest.fixture
def data(tmp_path: Path) -> Path:
    desk = Desk(tmp_path / "ledger.db", LIMIT, PER_USER)
    desk.lease("g1", Want(ACCOUNT, 10**9, 10**9), now=NOW)
    charges = (Charge(ACCOUNT, 6 * 10**8, 10**9), Charge(ALICES, 110, 0))
    desk.charge(record("g1", *charges, request="r1", cost=6 * 10**8, admitted_at=NOW, finished_at=NOW), now=NOW)
    desk.store.close()
    return tmp_path


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[LedgerAuthority]:
    current = CurrentPolicy(policy(LIMIT, PER_USER))
    owner = LedgerAuthority(data / "ledger.db", current, lambda: NOW)
    async with owner as authority, control_server.serving(data, partial(perform, authority)):
        yield authority


def spent(data: Path, account: str = ACCOUNT) -> int:
    store = SqliteStore(data / "ledger.db")
    known = store.account(account)
    store.close()
    assert known is not None
    return known[0].spent


def test_an_adjustment_without_a_running_process_opens_the_ledger_itself(data: Path) -> None:
    done = tollkeeper("adjust", "team/monthly", "--amount", "0.25", "--reason", "price", "--data-dir", data)
    assert (done.returncode, done.stdout) == (0, f"{ACCOUNT}: 0.25 USD; spent 0.35, balance 9.65\n")
    assert done.stderr.startswith("transaction ")
    assert spent(data) == 35 * 10**7
    assert list(data.glob("*.sock")) == []


async def test_an_adjustment_beside_a_running_process_is_booked_by_it(data: Path) -> None:
    async with running(data) as authority:
        done = await beside("adjust", "team/monthly", "--amount", "-1", "--reason", "billed", "--data-dir", data)
        assert (done.returncode, done.stderr[:12]) == (0, "transaction ")
        known = authority.reader.account(ACCOUNT)
        assert known is not None
        assert known.spent == 16 * 10**8
        with pytest.raises(LedgerInUse):
            SqliteStore(data / "ledger.db")


async def test_leases_go_on_while_corrections_are_booked(data: Path) -> None:
    async with running(data) as authority:
        want = Want(ACCOUNT, 5, 5)
        leases = [authority.lease(LeaseRequest("g2", n, (want,))) for n in range(1, 20)]
        ask = {"do": "adjust", "namespace": "team", "name": "monthly", "amount": "0.01", "reason": "many"}
        asked = [asyncio.to_thread(control.ask, data, ask) for _ in range(20)]
        answers = await asyncio.gather(*leases, *asked)
        assert all(answers)
        known = authority.reader.account(ACCOUNT)
        assert known is not None
        assert known.spent == 4 * 10**8


def test_what_a_vanished_gateway_had_in_hand_is_given_back(data: Path) -> None:
    desk = Desk(data / "ledger.db", LIMIT, PER_USER)
    desk.lease("lost", Want(ACCOUNT, 10**9, 10**9), now=NOW)
    desk.close("lost", {ACCOUNT: 10**9}, now=NOW)
    desk.store.close()
    told = ("adjust", "team/monthly", "--unreconciled", "--reason", "its disk is gone", "--data-dir", data)
    done = tollkeeper(*told, "--amount", "0.75")
    assert (done.returncode, done.stdout) == (0, f"{ACCOUNT}: 0.75 USD; spent 0.60, balance 9.15\n"), done.stderr
    again = tollkeeper(*told, "--amount", "0.75")
    assert (again.returncode, "0.25 USD stands unreconciled and 0.75 cannot" in again.stderr) == (1, True)


async def test_what_an_adjustment_asks_of_the_reader_keeps_neither_the_loop_nor_the_writer(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def noted(name: str) -> None:
        question = getattr(SqliteReader, name)

        def asking(reader: SqliteReader, *arguments: object) -> object:
            asked.append((name, threading.current_thread().name))
            return question(reader, *arguments)

        monkeypatch.setattr(SqliteReader, name, asking)

    noted("accounts_named")
    noted("vanished_holders")
    async with running(data) as authority:
        await authority.close("g1", {ACCOUNT: 10**8})
        what = {"do": "adjust", "namespace": "team", "name": "monthly", "amount": "0.1", "reason": "its disk is gone"}
        answer = await perform(authority, what | {"unreconciled": True})
    assert answer["accounts"][0]["amount"] == "0.10"
    assert [name for name, _ in asked] == ["accounts_named", "vanished_holders"]
    assert not {thread for _, thread in asked} & {threading.main_thread().name, "ledger-writer"}


def test_the_account_of_a_key_is_corrected_in_its_own_unit(data: Path) -> None:
    told = ("--key", "alice", "--amount", "100", "--reason", "test run", "--data-dir", data)
    done = tollkeeper("adjust", "team/users", *told)
    assert (done.returncode, spent(data, ALICES)) == (0, 10), done.stderr


def test_a_refund_gives_back_and_a_second_one_fails(data: Path) -> None:
    first = tollkeeper("refund", "r1", "--reason", "outage", "--data-dir", data)
    assert first.returncode == 0
    assert (spent(data), spent(data, ALICES)) == (0, 0)
    second = tollkeeper("refund", "r1", "--reason", "outage", "--data-dir", data)
    assert (second.returncode, second.stdout) == (1, "")
    assert "request r1: it was refunded already, in transaction " in second.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("monthly", "--amount", "1", "--reason", "x"), 2, "write the namespace and the name"),
        (("team/monthly", "--amount", "1"), 2, "Missing option '--reason'"),
        (("team/monthly/x", "--amount", "1", "--reason", "x"), 2, "write the namespace and the name"),
        (("team/monthly", "--amount", "NaN", "--reason", "x"), 2, "--amount 'NaN' is not an amount: write dollars such as"),
        (("team/monthly", "--amount", "", "--reason", "x"), 2, "--amount is empty: write dollars such as 25.00"),
        (("team/monthly", "--amount", "0.00", "--reason", "x"), 2, "--amount 0.00: a correction of 0 changes nothing"),
        (("team/monthly", "--amount", "2M", "--reason", "x"), 2,
         "--amount '2M': TokenBudget team/monthly counts USD; write dollars with at most 9 decimals, such as 25.00"),
        (("team/users", "--key", "alice", "--amount", "1.5", "--reason", "x"), 2,
         "--amount '1.5': TokenBudget team/users counts Tokens; write a whole number, or one with k, M or G, such as 2M"),
        (("team/monthly", "--amount", "9223372037", "--reason", "x"), 2, "is too large: the largest amount is"),
        (("team/monthly", "--unreconciled", "--amount", "-1", "--reason", "x"), 2,
         "--amount -1: --unreconciled only gives back; write the amount without its -"),
        (("team/monthly", "--unreconciled", "--reference", "T-1", "--amount", "1", "--reason", "x"), 2, "leave one of them"),
        (("team/monthly", "--amount", "1", "--reason", ""), 2, "--reason is empty: say why"),
        (("team/monthly", "--amount", "1", "--reason", "  "), 2, "--reason is empty: say why"),
        (("team/monthly", "--amount", "1", "--reason", "x" * 501), 2, "--reason has 501 characters: shorten it to 500"),
        (("team/monthly", "--amount", "1", "--reason", "x", "--reference", ""), 2, "--reference is empty: name what"),
        (("team/monthly", "--amount", "1", "--unit", "Tokens", "--reason", "x"), 1, "never counted Tokens, but USD"),
        (("team/other", "--amount", "1", "--reason", "x"), 1, "TokenBudget team/other without a key has no account"),
        (("team/users", "--amount", "1", "--reason", "x"), 1, "TokenBudget team/users without a key has no account"),
        (("team/monthly", "--at", "2020-01-01T00:00:00Z", "--amount", "1", "--reason", "x"), 1, "--at picks one of"),
        (("team/monthly", "--at", "2020-01-01", "--amount", "1", "--reason", "x"), 2, "such as 2020-01-01T00:00:00Z"),
        (("team/monthly", "--at", "soon", "--amount", "1", "--reason", "x"), 2, "is not a time"),
        (("team/monthly", "--amount", "1", "--reason", "x"), 1, "put in more with a TokenGrant"),
    ],
)  # fmt: skip
def test_what_cannot_be_adjusted_is_named_in_one_line(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, says: str
) -> None:
    assert main(["adjust", *arguments, "--data-dir", str(data)]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err
    assert spent(data) == 6 * 10**8


def test_no_grant_is_advised_for_a_quota(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ref = LimitRef("TokenQuota", "team", "caps", "daily")
    daily = replace(budget(allocation=5000, unit=Unit.TOKENS), ref=ref)
    counted = account_of(daily, NOW)
    desk = Desk(tmp_path / "ledger.db", daily)
    desk.charge(record("g", Charge(counted, 100, 0), admitted_at=NOW, finished_at=NOW), now=NOW)
    desk.store.close()
    what = ("adjust", "team/caps", "--limit", "daily", "--amount", "101", "--reason", "x")
    assert main([*what, "--data-dir", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert (
        "100 Tokens was spent and 101 cannot be given back; a quota takes no grants: raise its limit's amount" in told
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize(
    ("command", "booked"),
    [
        (("adjust", "team/monthly", "--amount", "0.1", "--reason", "x"), True),
        (("refund", "r1", "--reason", "x"), True),
        (("reconcile", "usage.csv", "--book"), False),
    ],
    ids=lambda part: part[0] if isinstance(part, tuple) else "",
)
def test_where_an_answer_cannot_be_written_it_is_told_whether_it_was_booked(
    data: Path, command: tuple[str, ...], booked: bool
) -> None:
    (data / "usage.csv").write_text("id,model,cost\nchatcmpl-1,gpt-5,0.5\n")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tollkeeper_cli", *command, "--data-dir", str(data)],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60, cwd=data,
        )  # fmt: skip
    says = "is booked all the same: do not repeat the command" if booked else "; nothing was booked"
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("Error: standard output: No space left on device; ")
    assert done.stderr.endswith(f"{says}\n")
    assert (spent(data) != 6 * 10**8) is booked


def test_an_adjustment_whose_reader_has_had_enough_ends_well(data: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "tollkeeper_cli", "refund", "r1", "--reason", "x", "--data-dir", str(data)],
            stdout=pipe, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr[:12]) == (0, "transaction ")
    assert spent(data) == 0


async def test_a_running_process_tells_wrong_usage_apart_too(data: Path) -> None:
    async with running(data):
        done = await beside("adjust", "team/monthly", "--amount", "2M", "--reason", "x", "--data-dir", data)
    assert done.returncode == 2
    assert "TokenBudget team/monthly counts USD" in done.stderr


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "--key '' is not a name: write at most 256 printable characters"),
        ("b" * 7000, "--key 'bbbbbbbbbbbbbbbbbbbb'… (7000 characters) is not a name"),
        ("b\n", r"--key 'b\n' is not a name"),
        ("b\x07", r"--key 'b\x07' is not a name"),
        ("b\udcff", r"--key: 'b\udcff' has bytes that are no text in UTF-8: write it in UTF-8"),
        ("\U0001f600" * 256, "--key is too long: percent-encoded, its account has"),
    ],
    ids=["empty", "long", "of two lines", "with a bell", "undecodable", "long when it is encoded"],
)
async def test_a_key_that_no_request_can_count_under_opens_no_account(data: Path, key: str, says: str) -> None:
    what = ("adjust", "team/users", "--key", key, "--amount=-100", "--reason", "x", "--data-dir", data)
    async with running(data) as authority:
        before = authority.reader.metadata()["transactions"]
        done = await beside(*what)
        assert authority.reader.metadata()["transactions"] == before
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert says in done.stderr


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("team/monthly", "--amount", "1", "--reason", "b\udcff"), "--reason"),
        (("team/monthly", "--amount", "1", "--reason", "x", "--reference", "b\udcff"), "--reference"),
        (("team/monthly", "--amount", "b\udcff", "--reason", "x"), "--amount"),
        (("team/monthly", "--amount", "1", "--reason", "x", "--limit", "b\udcff"), "--limit"),
        (("team/b\udcff", "--amount", "1", "--reason", "x"), "name"),
    ],
)
def test_bytes_that_are_no_text_are_wrong_usage(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], option: str
) -> None:
    assert main(["adjust", *arguments, "--data-dir", str(data)]) == 2
    assert rf"{option}: 'b\udcff' has bytes that are no text" in capsys.readouterr().err
    assert spent(data) == 6 * 10**8


async def test_an_account_that_an_adjustment_opens_is_told(data: Path) -> None:
    what = ("adjust", "team/users", "--key", "bob", "--amount=-100", "--reason", "x", "--data-dir", data)
    bobs = PER_USER.account_at(("bob",), NOW)[0].text
    async with running(data):
        first, second = await beside(*what), await beside(*what)
    assert first.stdout == f"{bobs}: -100 Tokens; spent 100, balance 4900; this account is new\n", first.stderr
    assert second.stdout == f"{bobs}: -100 Tokens; spent 200, balance 4800\n", second.stderr


def test_an_account_of_a_name_that_is_none_is_corrected_where_there_is_one(data: Path) -> None:
    desk = Desk(data / "ledger.db", LIMIT, PER_USER)
    odd = PER_USER.account_at(("zero\u200bwidth",), NOW)[0].text
    desk.charge(record("g1", Charge(odd, 110, 0), request="r2", admitted_at=NOW, finished_at=NOW), now=NOW)
    desk.store.close()
    told = ("--key", "zero\u200bwidth", "--amount", "100", "--reason", "test run", "--data-dir", data)
    done = tollkeeper("adjust", "team/users", *told)
    assert (done.returncode, spent(data, odd)) == (0, 10), done.stderr


@pytest.mark.parametrize(("amount", "says"), [("2M", "is in USD; write dollars"), ("-1", "gives back more than 0")])
def test_a_part_that_cannot_be_refunded_is_wrong_usage(
    data: Path, capsys: pytest.CaptureFixture[str], amount: str, says: str
) -> None:
    assert main(["refund", "r1", "--amount", amount, "--reason", "x", "--data-dir", str(data)]) == 2
    assert says in capsys.readouterr().err


async def test_a_refusal_of_the_running_process_reads_like_one_of_the_command(data: Path) -> None:
    async with running(data):
        done = await beside("refund", "nobody", "--reason", "x", "--data-dir", data)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: request nobody: it is not in the ledger")


def test_a_folder_without_a_ledger_is_named(tmp_path: Path) -> None:
    done = tollkeeper("refund", "r1", "--reason", "x", "--data-dir", tmp_path)
    assert (done.returncode, "there is no ledger" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


async def test_the_socket_is_its_owners_alone_and_goes_with_the_process(data: Path) -> None:
    async with running(data):
        assert stat.S_IMODE((data / control.SOCKET).stat().st_mode) == 0o600
    assert not (data / control.SOCKET).exists()


async def test_a_socket_that_a_killed_process_left_is_taken_over(data: Path) -> None:
    async with running(data):
        (data / control.SOCKET).rename(data / "kept")
    (data / "kept").rename(data / control.SOCKET)
    alone = tollkeeper("adjust", "team/monthly", "--amount", "0.1", "--reason", "x", "--data-dir", data)
    assert alone.returncode == 0, alone.stderr
    async with running(data):
        again = await beside("adjust", "team/monthly", "--amount", "0.1", "--reason", "x", "--data-dir", data)
        assert again.returncode == 0, again.stderr
    assert spent(data) == 4 * 10**8


async def test_a_folder_with_a_long_name_has_a_socket_too(data: Path) -> None:
    deep = data / ("d" * 120)
    deep.mkdir()
    (data / "ledger.db").rename(deep / "ledger.db")
    async with running(deep):
        done = await beside("adjust", "team/monthly", "--amount", "0.1", "--reason", "x", "--data-dir", deep)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b'{"do":"drop"}\n', b"{", b"x" * (control.LARGEST_LINE + 9)])
async def test_a_line_that_is_no_request_is_refused_and_the_socket_stays(data: Path, line: bytes) -> None:
    async with running(data):
        reader, writer = await asyncio.open_unix_connection(str(data / control.SOCKET))
        writer.write(line)
        writer.write_eof()
        assert (await reader.read()).startswith(b'{"error":"')
        writer.close()
        ask = {"do": "refund", "request": "r1", "reason": "still there"}
        assert await asyncio.to_thread(control.ask, data, ask)
