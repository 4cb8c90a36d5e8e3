"""Reports that come twice, in another order, hours late or after their window: the same totals, each request once (I3, B6)."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random

import pytest

from tests.faults.holding import Books, Standing, everything_holds
from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tests.ledger.conftest import NewLedger
from tollkeeper.leases import Want
from tollkeeper.usage import Charge, UsageRecord
from tollkeeper_ledger.storage import LedgerAt

TEAM = budget(allocation=2000, minimum=0)
WHOLE = budget("whole", allocation=9000, minimum=0)
OF_TEAM, OF_WHOLE = account_of(TEAM), account_of(WHOLE)
HOLDERS = ("g1", "g2", "g3")
HELD = 40
HISTORIES = 6
MONTH_END = datetime.fromisoformat("2026-12-01T00:00:00+01:00")


def usages() -> list[UsageRecord]:
    """Twelve requests of each holder, no two of the same amount, spread over half an hour."""
    return [
        record(
            holder,
            Charge(OF_TEAM, number * 3 % HELD + 1, HELD),
            Charge(OF_WHOLE, number * 3 % HELD + 1, HELD),
            request=f"{holder}-{number}",
            finished_at=NOW + timedelta(minutes=number * 3, seconds=7),
        )
        for holder in HOLDERS
        for number in range(12)
    ]


USAGES = usages()
USED = sum(one.charges[0].amount for one in USAGES)


def begun(ledger: LedgerAt) -> Desk:
    """Every holder holds what its requests need at most."""
    desk = Desk(ledger, TEAM, WHOLE)
    for holder in HOLDERS:
        amount = 12 * HELD
        desk.lease(holder, Want(OF_TEAM, amount, amount), Want(OF_WHOLE, amount, amount))
    return desk


def in_order(new_ledger: NewLedger) -> Books:
    """What the books say when every report comes once, in time, in order."""
    ledger = new_ledger()
    desk = begun(ledger)
    desk.charge(*USAGES)
    for holder in HOLDERS:
        desk.close(holder)
    desk.store.close()
    return everything_holds(ledger, served={OF_TEAM: USED})


def totals(books: Books) -> list[object]:
    """Accounts, leases and requests; how the way there is told differs with the way."""
    accounts, leases, holders, *_ = books.facts()
    return [accounts, leases, [(row[0], row[2]) for row in holders], books.requests]  # type: ignore[attr-defined]


def batches(rng: Random) -> Iterator[Sequence[UsageRecord]]:
    """All usages in any order, about every third one twice or three times, cut into batches anywhere."""
    waiting = [one for one in USAGES for _ in range(rng.choice((1, 1, 2, 3)))]
    rng.shuffle(waiting)
    while waiting:
        cut = rng.randint(1, 9)
        yield waiting[:cut]
        waiting = waiting[cut:]


@pytest.fixture
def rng() -> Random:
    return Random(20261122)  # noqa: S311 - an order of reports, not a secret


def test_in_any_order_and_however_often_reports_add_up_to_the_same(new_ledger: NewLedger, rng: Random) -> None:
    expected = totals(in_order(new_ledger))
    for _ in range(HISTORIES):
        ledger = new_ledger()
        desk = begun(ledger)
        for batch in batches(rng):
            desk.charge(*batch)
        for holder in HOLDERS:
            desk.close(holder)
        desk.charge(*rng.sample(USAGES, 10))
        desk.store.close()
        assert totals(everything_holds(ledger, served={OF_TEAM: USED, OF_WHOLE: USED})) == expected


def test_hours_late_and_while_their_holders_lapse_and_end_reports_add_up_to_the_same(
    new_ledger: NewLedger, rng: Random
) -> None:
    expected = in_order(new_ledger).accounts
    for _ in range(HISTORIES):
        ledger = new_ledger()
        desk, now = begun(ledger), NOW
        for batch in batches(rng):
            now += timedelta(minutes=rng.randint(0, 90))
            if rng.random() < 0.5:
                desk.lapse(rng.choice(HOLDERS))
            desk.charge(*batch, now=now)
        everything_holds(ledger, served={OF_TEAM: USED})
        for holder in HOLDERS:
            desk.close(holder)
        desk.store.close()
        assert everything_holds(ledger).accounts == expected


def test_every_report_that_is_still_out_is_covered_by_what_stands(ledger: LedgerAt, rng: Random) -> None:
    desk, served = begun(ledger), {OF_TEAM: USED, OF_WHOLE: USED}
    for number, batch in enumerate(batches(rng)):
        desk.charge(*batch)
        if number % 4 == 0:
            desk.lapse(rng.choice(HOLDERS))
        everything_holds(ledger, served=served)
    desk.store.close()


def test_a_report_that_comes_after_its_window_counts_in_the_window_in_which_it_was_admitted(ledger: LedgerAt) -> None:
    desk = begun(ledger)
    later = MONTH_END + timedelta(hours=5)
    next_window = account_of(TEAM, later)
    desk.lease("g4", Want(next_window, 500, 500), now=later)
    desk.charge(*USAGES, *USAGES, now=later)
    books = everything_holds(ledger, served={OF_TEAM: USED})
    assert books.accounts[OF_TEAM].spent == USED
    assert books.accounts[next_window] == Standing(2000, spent=0, unreconciled=0, held=500, overshoot=0)
    desk.store.close()
