"""Reconciliations by id and by day, in whatever order they come: the books end at the provider's figures."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, account_of, budget, record
from tests.ledger.conftest import NewLedger
from tollkeeper.limits import Enforcement
from tollkeeper.providerfile import ProviderRow
from tollkeeper.reconciliation import Fix, compare
from tollkeeper.usage import Buckets, Caller, Charge
from tollkeeper_ledger import corrections
from tollkeeper_ledger.corrections import CORRECT, Change, Correction
from tollkeeper_ledger.export import verify
from tollkeeper_ledger.history import read_history

NAMES = ("alice", "bob", "carol")
LIMITS = {name: budget(name, 10**6, enforcement=Enforcement.SOFT) for name in NAMES}
COMPANY = budget("company", 10**6, enforcement=Enforcement.SOFT)
TENANTS = {"alice": "team", "bob": "team", "carol": "org"}


@dataclass(frozen=True)
class Request:
    """What we booked, and what the provider says of it."""

    upstream: str
    whose: str
    ours: int
    theirs: int


def by_id(requests: Sequence[Request]) -> list[ProviderRow]:
    return [ProviderRow(r.upstream, r.upstream, None, "gpt-5", r.theirs, Buckets()) for r in requests]


def by_day(requests: Sequence[Request]) -> list[ProviderRow]:
    return [ProviderRow("day", None, NOW.date(), "gpt-5", sum(r.theirs for r in requests), Buckets())]


def fixes(desk: Desk, rows: list[ProviderRow]) -> list[Fix]:
    found = compare(read_history(desk.export()), rows)
    open_costs = sum(row.cost for row in found.unknown if row.day)
    assert sum(line.difference for line in found.lines.values()) == sum(fix.cost for fix in found.fixes) + open_costs
    return found.fixes


def book(desk: Desk, fix: Fix) -> None:
    changes = tuple(Change(account, amount) for account, amount in fix.changes.items())
    correction = Correction(CORRECT, changes, "as the provider says", fix.details, (fix.mark,))
    desk.do(lambda work: corrections.correct(work, desk.policy, correction, NOW))


def reconcile(desk: Desk, rows: list[ProviderRow]) -> None:
    for fix in fixes(desk, rows):
        book(desk, fix)
    assert fixes(desk, rows) == [], "the same file again books nothing"


def charge(desk: Desk, requests: Sequence[Request]) -> None:
    for one in requests:
        charges = [Charge(account_of(limit), one.ours, 0) for limit in (LIMITS[one.whose], COMPANY)]
        caller = Caller(TENANTS[one.whose], user=one.whose)
        desk.charge(record("g", *charges, cost=one.ours, upstream_id=one.upstream, caller=caller))


def spent(desk: Desk) -> dict[str, int]:
    known = {name: desk.known(account_of(limit)) for name, limit in (LIMITS | {"company": COMPANY}).items()}
    return {name: found[0].spent for name, found in known.items() if found}


def theirs(requests: Sequence[Request]) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for one in requests:
        sums[one.whose] += one.theirs
        sums["company"] += one.theirs
    return sums


@contextmanager
def desk_with(new_ledger: NewLedger, requests: Sequence[Request]) -> Iterator[Desk]:
    desk = Desk(new_ledger(), *LIMITS.values(), COMPANY)
    with closing(desk.store):
        charge(desk, requests)
        yield desk


THREE = (Request("a", "alice", 100, 150), Request("b", "bob", 200, 200), Request("c", "carol", 300, 90))


def test_a_difference_that_was_booked_by_day_is_not_booked_again_by_id(new_ledger: NewLedger) -> None:
    with desk_with(new_ledger, THREE) as desk:
        reconcile(desk, by_day(THREE))
        assert spent(desk)["company"] == 440
        reconcile(desk, by_id(THREE))
        assert spent(desk) == theirs(THREE)


def test_a_difference_that_was_booked_by_id_is_not_booked_again_by_day(new_ledger: NewLedger) -> None:
    with desk_with(new_ledger, THREE) as desk:
        reconcile(desk, by_id(THREE))
        for rows in (by_day(THREE), by_id(THREE[:1]), by_day(THREE)):
            assert fixes(desk, rows) == []
        assert spent(desk) == theirs(THREE)


def test_a_request_that_was_set_to_nothing_by_its_id_gives_back_no_more_by_its_day(new_ledger: NewLedger) -> None:
    free, other = Request("a", "alice", 1000, 0), Request("b", "bob", 10, 10)
    with desk_with(new_ledger, [free, other]) as desk:
        reconcile(desk, by_id([free]))
        reconcile(desk, [ProviderRow("day", None, NOW.date(), "gpt-5", 0, Buckets())])
        assert spent(desk) == {"alice": 0, "bob": 0, "company": 0}


def test_two_reconciliations_at_once_are_put_right_by_the_next_one(new_ledger: NewLedger) -> None:
    with desk_with(new_ledger, THREE) as desk:
        for fix in [*fixes(desk, by_day(THREE)), *fixes(desk, by_id(THREE))]:
            book(desk, fix)
        reconcile(desk, by_id(THREE))
        assert spent(desk) == theirs(THREE)


requests = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=5
).map(lambda found: [Request(f"id-{number}", *one) for number, one in enumerate(found)])


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests, st.lists(st.booleans(), max_size=5), st.data())
def test_whatever_the_order_and_granularity_of_files_the_books_end_at_the_providers_figures(
    new_ledger: NewLedger, asked: list[Request], files: list[bool], data: st.DataObject
) -> None:
    split = data.draw(st.integers(0, len(asked)))
    with desk_with(new_ledger, asked[:split]) as desk:
        booked = asked[:split]
        for daily in files:
            if data.draw(st.booleans()):
                charge(desk, asked[len(booked) :])
                booked = asked
            told = [replace(one, theirs=data.draw(st.sampled_from([one.theirs, 0, 7]))) for one in booked]
            named = [one for one in told if not daily or data.draw(st.booleans())]
            rest = [one for one in told if one not in named]
            reconcile(desk, by_id(named) + (by_day(rest) if daily else []))
            if rest or not daily:
                assert spent(desk).get("company", 0) == theirs(told)["company"]
            assert all(amount >= 0 for amount in spent(desk).values())
        charge(desk, asked[len(booked) :])
        reconcile(desk, by_day(asked))
        assert spent(desk)["company"] == theirs(asked)["company"]
        reconcile(desk, by_id(asked))
        assert fixes(desk, by_day(asked)) == []
        assert spent(desk) == theirs(asked)
        verify(desk.export())


def test_corrections_of_earlier_releases_are_what_they_were_booked_by(new_ledger: NewLedger) -> None:
    """They said a day, a model and an amount, and laid it on all usages by what these were booked at."""
    with desk_with(new_ledger, THREE) as desk:
        changes = tuple(
            Change(account_of(limit), -amount)
            for limit, amount in ((LIMITS["alice"], 20), (LIMITS["bob"], 40), (COMPANY, 60))
        )
        details = {"day": str(NOW.date()), "model": "gpt-5", "tenant": "team", "cost": 60}
        old = Correction(CORRECT, changes, "as the provider says", details, ("correct/old",))
        desk.do(lambda work: corrections.correct(work, desk.policy, old, NOW))
        reconcile(desk, by_id(THREE))
        assert spent(desk) == theirs(THREE)
