"""The spool: what was written before a kill is there after it, what cannot be written is refused, nothing grows forever."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tests.sidecar.builders import account_of, limit, record
from tests.sidecar.reference import ReferenceAuthority
from tollkeeper.errors import Unavailable
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.usage import Charge
from tollkeeper_sidecar.errors import SpoolFull
from tollkeeper_sidecar.recovery import recover
from tollkeeper_sidecar.spool import Spool
from tollkeeper_sidecar.spool_format import head_line, hold_line, read_files, used_line, void_line

BUDGET = limit()
ACCOUNT = account_of(BUDGET)
MIB = 2**20


def spool(directory: Path, holder: str = "holder-1", *, largest: int = MIB, segment: int = 64 * 1024) -> Spool:
    return Spool(directory, holder, "boot-1", largest=largest, segment=segment)


def content_of(directory: Path, holder: str = "holder-1") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((directory / holder).glob("*.spool"))}


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def abandoned(directory: Path, holder: str = "holder-1") -> None:
    """A spool as a kill leaves it: three requests held, one of them settled, one void."""
    left = spool(directory, holder)
    for request, amount in (("a", 10), ("b", 20), ("c", 30)):
        left.hold(request, {ACCOUNT: amount})
    left.settle(record("a", holder, Charge(ACCOUNT, 7, 10)))
    left.void("b")
    await left.close(finished=False)


async def leased(authority: ReferenceAuthority, holder: str = "holder-1") -> None:
    await authority.lease(LeaseRequest(holder, 1, (Want(ACCOUNT, 100, 100),)))


async def test_after_a_kill_the_settled_is_reported_and_the_open_holds_stay(tmp_path: Path) -> None:
    authority = ReferenceAuthority([BUDGET])
    await leased(authority)
    await abandoned(tmp_path)
    done = await recover(tmp_path, authority, "boot-1")
    assert (done.holders, done.records, done.open_holds) == (1, 1, 1)
    assert authority.closed == {"holder-1": {ACCOUNT: 30}}
    account = authority.accounts[ACCOUNT]
    assert (account.spent, account.unreconciled, account.held) == (7, 30, 0)
    assert names_in(tmp_path) == []


async def test_after_a_crash_of_the_machine_the_leases_are_left_to_lapse(tmp_path: Path) -> None:
    authority = ReferenceAuthority([BUDGET])
    await abandoned(tmp_path)
    await recover(tmp_path, authority, "boot-2")
    assert set(authority.booked) == {"a"}
    assert authority.closed == {}


async def test_recovery_twice_charges_once(tmp_path: Path) -> None:
    authority = ReferenceAuthority([BUDGET])
    for holder in ("holder-1", "holder-2"):
        await abandoned(tmp_path / holder, holder)
    await recover(tmp_path / "holder-1", authority, "boot-1")
    await recover(tmp_path / "holder-2", authority, "boot-1")
    assert authority.accounts[ACCOUNT].spent == 7


async def test_a_spool_that_nobody_takes_stays_for_the_next_time(tmp_path: Path) -> None:
    authority = ReferenceAuthority([BUDGET])
    await abandoned(tmp_path)
    authority.away = True
    with pytest.raises(Unavailable):
        await recover(tmp_path, authority, "boot-1")
    authority.away = False
    assert (await recover(tmp_path, authority, "boot-1")).records == 1


async def test_a_spool_in_use_is_left_alone(tmp_path: Path) -> None:
    living = spool(tmp_path)
    living.hold("a", {ACCOUNT: 10})
    assert (await recover(tmp_path, ReferenceAuthority([BUDGET]), "boot-1")).holders == 0
    await living.close(finished=True)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("torn_bytes", [1, 5, 40])
async def test_a_torn_last_line_is_no_damage(tmp_path: Path, torn_bytes: int) -> None:
    await abandoned(tmp_path)
    last = tmp_path / "holder-1" / "00000001.spool"
    with last.open("ab") as file:
        file.write(hold_line("d", {ACCOUNT: 40})[:torn_bytes])
    done = await recover(tmp_path, ReferenceAuthority([BUDGET]), "boot-1")
    assert (done.damaged, done.open_holds) == (0, 1)


async def test_a_damaged_line_keeps_the_file_aside_and_the_leases_alone(tmp_path: Path) -> None:
    authority = ReferenceAuthority([BUDGET])
    await abandoned(tmp_path)
    path = tmp_path / "holder-1" / "00000001.spool"
    path.write_bytes(path.read_bytes().replace(b'"b"', b'"x"', 1))
    done = await recover(tmp_path, authority, "boot-1")
    assert done.damaged == 1
    assert set(authority.booked) == {"a"}
    assert authority.closed == {}
    assert names_in(tmp_path) == ["holder-1.damaged"]
    assert (await recover(tmp_path, authority, "boot-1")).holders == 0


LINES = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["hold", "void", "used"])), max_size=30)


@given(LINES)
def test_a_hold_is_open_until_it_is_void_or_used(events: list[tuple[str, str]]) -> None:
    data, open_holds, used = head_line("holder-1", "boot-1"), set[str](), set[str]()
    for request, event in events:
        match event:
            case "hold":
                data += hold_line(request, {ACCOUNT: 5})
                open_holds.add(request)
            case "void":
                data += void_line(request)
                open_holds.discard(request)
            case _:
                data += used_line(record(request))
                open_holds.discard(request)
                used.add(request)
    content = read_files([("00000001.spool", data)])
    assert content.damage is None
    assert set(content.open_holds) == open_holds
    assert set(content.records) == used
    assert content.kept() == ({ACCOUNT: 5 * len(open_holds)} if open_holds else {})


def test_a_record_reads_back_as_it_was() -> None:
    settled = record("a", "holder-1", Charge(ACCOUNT, 7, 10), cost=None, tool="search")
    content = read_files([("1", head_line("holder-1", "boot-1") + used_line(settled))])
    assert content.records["a"] == settled


async def test_files_go_once_their_records_are_booked_and_open_holds_move_on(tmp_path: Path) -> None:
    small = spool(tmp_path, segment=4096)
    small.hold("long", {ACCOUNT: 99})
    for number in range(40):
        small.hold(f"r{number}", {ACCOUNT: 1})
        small.settle(record(f"r{number}"))
    assert len(content_of(tmp_path)) > 3
    small.booked([f"r{number}" for number in range(40)])
    left = content_of(tmp_path)
    assert len(left) == 1
    assert read_files(left.items()).kept() == {ACCOUNT: 99}
    await small.close(finished=True)


async def test_at_its_bound_nothing_new_is_held_but_what_is_held_can_be_settled(tmp_path: Path) -> None:
    small = spool(tmp_path, largest=8192, segment=4096)
    small.hold("first", {ACCOUNT: 1})
    for number in range(20):
        small.settle(record(f"r{number}"))
    with pytest.raises(SpoolFull, match="the authority does not take usage"):
        small.hold("one more", {ACCOUNT: 1})
    small.settle(record("first"))
    small.booked([*(f"r{number}" for number in range(20)), "first"])
    small.hold("one more", {ACCOUNT: 1})
    await small.close(finished=True)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system refuses to let files grow beyond a size: as a full disk does. Logs stay away from the test run's files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with structlog.testing.capture_logs():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_said_and_leaves_whole_lines(tmp_path: Path) -> None:
    full = spool(tmp_path)
    full.hold("a", {ACCOUNT: 1})
    with largest_file(sum(len(data) for data in content_of(tmp_path).values()) + 20), pytest.raises(SpoolFull):
        full.hold("b", {ACCOUNT: 2})
    full.hold("c", {ACCOUNT: 4})
    content = read_files(content_of(tmp_path).items())
    assert content.damage is None
    assert set(content.open_holds) == {"a", "c"}
    await full.close(finished=True)


async def test_many_wait_for_the_disk_at_once(tmp_path: Path) -> None:
    busy = spool(tmp_path, segment=4096)

    async def settled(number: int) -> None:
        busy.hold(f"r{number}", {ACCOUNT: 1})
        busy.settle(record(f"r{number}"))
        await busy.durable()

    await asyncio.gather(*(settled(number) for number in range(200)))
    assert len(read_files(content_of(tmp_path).items()).records) == 200
    await busy.close(finished=True)


WRITER = """
import asyncio, sys
from pathlib import Path
from tests.sidecar.builders import record
from tollkeeper_sidecar.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), "holder-1", "boot-1", largest=2**30, segment=16384)
    for number in range(10**9):
        spool.hold(f"r{number}", {"account": 1})
        if number % 3:
            spool.settle(record(f"r{number}"))
            await spool.durable()
            print(number, flush=True)

asyncio.run(main())
"""


def test_what_was_said_to_be_durable_survives_kill_9(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
    ) as writer:
        assert writer.stdout is not None
        said = [int(next(writer.stdout)) for _ in range(60)]
        writer.send_signal(signal.SIGKILL)
        said += [int(line) for line in writer.stdout if line.endswith("\n")]
    content = read_files(content_of(tmp_path).items())
    assert content.damage is None
    assert {f"r{number}" for number in said} <= set(content.records)
    last = max(int(name[1:]) for name in content.records)
    assert {f"r{number}" for number in range(last) if number % 3 == 0} <= set(content.open_holds)
