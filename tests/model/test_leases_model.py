"""`docs/leases.tla`, checked: every world that small instances can reach, through the real steps; and the checker can fail."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.model.explorer import Explored, explore
from tests.model.memory import Memory
from tests.model.world import Instance
from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper_ledger import bookkeeping
from tollkeeper_ledger.state import Holder
from tollkeeper_ledger.work import Work

INSTANCES = {
    "two calls each, one request": Instance(holders=2, calls=2, requests=1, cap=3),
    "one call each, two requests": Instance(holders=2, calls=1, requests=2, cap=4),
}
SMALL = Instance(holders=2, calls=2, requests=1, cap=3, uses=(1,))
DOCUMENT = Path(__file__).parents[2] / "docs" / "leases.md"


@pytest.fixture(scope="module")
def explored() -> dict[str, Explored]:
    return {name: explore(size) for name, size in INSTANCES.items()}


@pytest.mark.slow
def test_no_reachable_world_breaks_a_promise(explored: dict[str, Explored], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        for name, one in explored.items():
            print(f"\n{name}: {one.worlds} worlds, {one.steps} steps, depth {one.depth}", end="")
    assert [(one.broken, one.way) for one in explored.values()] == [(None, ())] * len(INSTANCES)


@pytest.mark.slow
def test_the_document_tells_the_figures_of_this_run(explored: dict[str, Explored]) -> None:
    of_the_code, _, _ = DOCUMENT.read_text().partition("| Instance of `leases.tla` itself |")
    rows = re.findall(r"^\| (.+?) \|.*\| ([\d,]+) \| ([\d,]+) \| (\d+) \|$", of_the_code, re.MULTILINE)
    told = {name: tuple(int(number.replace(",", "")) for number in numbers) for name, *numbers in rows}
    assert told == {name: (one.worlds, one.steps, one.depth) for name, one in explored.items()}


def forget_sequence_numbers(patch: pytest.MonkeyPatch) -> None:
    heard = Memory.holder
    patch.setattr(Memory, "holder", lambda memory, holder: replace(heard(memory, holder), sequence=0))


def grant_without_hold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "hold", lambda account, _amount: account)


def release_one_too_many(patch: pytest.MonkeyPatch) -> None:
    release = rules.release
    patch.setattr(rules, "release", lambda account, amount: release(account, amount + 1))


def book_reports_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Memory, "booked_among", lambda _memory, _names: frozenset())


def forget_what_a_vanished_holder_had(patch: pytest.MonkeyPatch) -> None:
    def lapse(account: Account, limit: object, amount: int) -> Account:
        return replace(account, held=account.held - amount)

    patch.setattr(rules, "lapse", lapse)


def leave_empty_leases_lapsed(patch: pytest.MonkeyPatch) -> None:
    """A fault that was in the code until this model was made."""
    revive = bookkeeping.revive

    def revive_full_ones(work: Work, policy: object, holder: str, now: object) -> None:
        empty = [lease for lease in work.leases_of(holder).values() if lease.lapsed and not lease.outstanding]
        revive(work, policy, holder, now)  # type: ignore[arg-type]
        for lease in empty:
            work.put_lease(lease)

    patch.setattr(bookkeeping, "revive", revive_full_ones)


def keep_ended_holders_calling(patch: pytest.MonkeyPatch) -> None:
    heard = Memory.holder
    patch.setattr(Memory, "holder", lambda memory, holder: Holder(holder, heard(memory, holder).sequence))


def let_any_amount_be_available(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Account, "available", lambda account, limit: max(0, account.room(limit)))


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (forget_sequence_numbers, "refinement"),
        (grant_without_hold, "I2|sums|refinement"),
        (release_one_too_many, "I2|sums"),
        (book_reports_twice, "I3|refinement"),
        (forget_what_a_vanished_holder_had, "sums|I2|refinement"),
        (leave_empty_leases_lapsed, "sums|refinement"),
        (keep_ended_holders_calling, "refinement"),
        (let_any_amount_be_available, "I1"),
    ],
)
def test_the_checker_finds_a_fault_in_the_ledger(
    plant: Callable[[pytest.MonkeyPatch], None], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    one = explore(SMALL)
    assert one.broken is not None
    assert re.search(found, one.broken), one.broken
    assert 0 < len(one.way) < 15


@pytest.mark.parametrize("fault", ["restores_returns", "closes_early"])
def test_the_checker_finds_a_fault_in_a_holder(fault: str) -> None:
    one = explore(replace(SMALL, **{fault: True}))  # type: ignore[arg-type]
    assert one.broken is not None
    assert re.search("a holder hands out no more|I1|I2", one.broken), one.broken
