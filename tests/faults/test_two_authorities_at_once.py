"""Two authorities at once: on PostgreSQL they share the books and pass no cap; on SQLite the second refuses to start."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.holding import everything_holds
from tests.ledger.builders import NOW, account_of, budget, policy
from tests.postgres_server import PostgresServer
from tollkeeper.policy import CurrentPolicy
from tollkeeper_ledger.errors import LedgerInUse
from tollkeeper_ledger.sqlite import SqliteStore
from tollkeeper_ledger.storage import LedgerAt, PostgresLedger
from tollkeeper_webhook.authority import LedgerAuthority

LIMIT = budget(allocation=3000, minimum=0)
ACCOUNT = account_of(LIMIT)
ROOT = Path(__file__).parents[2]

AUTHORITY = """
import asyncio, sys
from pathlib import Path
from tests.faults.test_two_authorities_at_once import ACCOUNT, LIMIT
from tests.ledger.builders import NOW, policy, record
from tollkeeper.errors import Unavailable
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.policy import CurrentPolicy
from tollkeeper.usage import Charge
from tollkeeper_ledger.storage import PostgresLedger
from tollkeeper_webhook.authority import LedgerAuthority

async def persistently(call):
    while True:
        try:
            return await call()
        except Unavailable:
            await asyncio.sleep(0.01)

async def serve(authority, name, number):
    holder, sequence = f"{name}-{number}", 0
    while True:
        sequence += 1
        request = LeaseRequest(holder, sequence, (Want(ACCOUNT, 7, 7),))
        reply = await persistently(lambda: authority.lease(request))
        if reply.refused:
            return
        if not reply.granted:
            continue
        print("granted", flush=True)
        used = record(holder, Charge(ACCOUNT, 5, 7), request=f"{holder}-{sequence}")
        print("served", flush=True)
        await persistently(lambda: authority.report([used, used] if sequence % 2 else [used]))

async def main(ledger, name):
    async with LedgerAuthority(ledger, CurrentPolicy(policy(LIMIT)), lambda: NOW) as authority:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(serve(authority, name, number) for number in range(4)))

dsn, path, name = sys.argv[1:]
asyncio.run(main(PostgresLedger(dsn) if dsn else Path(path), name))
"""


@contextmanager
def an_authority(ledger: LedgerAt, name: str) -> Iterator[subprocess.Popen[str]]:
    """A process with an authority of its own and four holders, which ask for all there is once they are told to."""
    dsn = ledger.dsn if isinstance(ledger, PostgresLedger) else ""
    path = str(ledger) if isinstance(ledger, Path) else ""
    command = [sys.executable, "-c", AUTHORITY, dsn, path, name]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def begin(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def ended(process: subprocess.Popen[str]) -> list[str]:
    """All that a process had said by its end."""
    assert process.stdout is not None
    said = process.stdout.read().splitlines()
    process.wait(60)
    return said


def test_on_postgresql_two_grant_no_more_than_there_is(postgres: PostgresServer) -> None:
    ledger = PostgresLedger(postgres.new_database())
    with an_authority(ledger, "one") as one, an_authority(ledger, "two") as two:
        begin(one, two)
        said = ended(one) + ended(two)
        assert (one.returncode, two.returncode) == (0, 0)
    served = 5 * said.count("served")
    account = everything_holds(ledger, served={ACCOUNT: served}).accounts[ACCOUNT]
    # Each request leaves 2 of its lease behind, and what is left in the end is less than one lease.
    assert account.spent == served
    assert 3000 - 7 < account.charged_or_held <= 3000


def test_on_postgresql_one_that_is_killed_leaves_the_other_the_rest_and_no_more(postgres: PostgresServer) -> None:
    ledger = PostgresLedger(postgres.new_database())
    with an_authority(ledger, "one") as one, an_authority(ledger, "two") as two:
        begin(one)
        assert one.stdout is not None
        before = [one.stdout.readline().strip() for _ in range(100)]
        begin(two)
        before += [one.stdout.readline().strip() for _ in range(60)]
        one.send_signal(signal.SIGKILL)
        said = before + ended(one) + ended(two)
        assert (one.returncode, two.returncode) == (-signal.SIGKILL, 0)
    served = 5 * said.count("served")
    account = everything_holds(ledger, served={ACCOUNT: served}).accounts[ACCOUNT]
    assert 3000 - 7 < account.charged_or_held <= 3000
    assert account.spent <= served


@pytest.mark.parametrize("name", ["ledger.db", "../data/ledger.db", "linked.db", "linked/ledger.db"])
def test_on_sqlite_the_second_refuses_to_start_and_names_the_first_by_whatever_name_it_finds_the_file(
    tmp_path: Path, name: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "linked.db").symlink_to(data / "ledger.db")
    (data / "linked").symlink_to(data)
    with an_authority(data / "ledger.db", "first") as first:
        why = f"process {first.pid} writes it; end that process or name another ledger"
        with pytest.raises(LedgerInUse, match=why):
            LedgerAuthority(data / name, CurrentPolicy(policy(LIMIT)), lambda: NOW)
        begin(first)
        ended(first)
    everything_holds(data / "ledger.db")


def test_on_sqlite_the_second_starts_as_soon_as_the_first_is_gone_however_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with an_authority(path, "first") as first:
        begin(first)
        assert first.stdout is not None
        said = [first.stdout.readline().strip() for _ in range(50)]
        first.send_signal(signal.SIGKILL)
        said += ended(first)
    with an_authority(path, "second") as second:
        with pytest.raises(LedgerInUse, match=f"process {second.pid} writes it"):
            SqliteStore(path)
        begin(second)
        said += ended(second)
    served = 5 * said.count("served")
    account = everything_holds(path, served={ACCOUNT: served}).accounts[ACCOUNT]
    assert 3000 - 7 < account.charged_or_held <= 3000
