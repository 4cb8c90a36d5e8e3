"""The worked examples of `docs/accounting.md`, computed again with the core: a number that is wrong there fails here."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tests.ledger.builders import NOW as LEDGER_NOW
from tests.ledger.builders import record
from tests.ledger.families import Family, of_tenant
from tollkeeper import accounts as rules
from tollkeeper.accounts import Account
from tollkeeper.amounts import Unit, format_money, parse_money
from tollkeeper.grants import Share, remaining
from tollkeeper.leases import Reason, Refusal, Want, decide
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar
from tollkeeper_ledger import corrections
from tollkeeper_ledger.corrections import Change

DOCUMENT = (Path(__file__).parents[2] / "docs" / "accounting.md").read_text()
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def example(name: str) -> tuple[list[str], list[list[str]]]:
    """The numbers in an example's comment, and the cells of its table."""
    found = re.search(rf"<!-- example: {name}(.*?) -->\n\n\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n)+)", DOCUMENT)
    assert found is not None, f"the document has no example {name}"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[2].splitlines()]
    return re.findall(r"-?\d[\d.]*", found[1]), rows


def limit(**values: object) -> Limit:
    given = {"allocation": 0, "unit": Unit.USD, "calendar": Calendar.FOREVER, "tenants": frozenset({"team"})} | values
    return Limit(LimitRef("TokenBudget", "team", "monthly"), **given)  # type: ignore[arg-type]


def spend(account: Account, of: Limit, amount: int) -> Account:
    return rules.charge(account, of, amount, from_held=amount, from_unreconciled=0, now=NOW)


STEPS: dict[str, Callable[[Account, Limit, int], Account]] = {
    "allocation": lambda account, of, amount: rules.credit(account, of, allocation=amount),
    "rolled over": lambda account, of, amount: rules.credit(account, of, rolled_over=amount),
    "granted": lambda account, of, amount: rules.credit(account, of, granted=amount),
    "set aside": lambda account, _of, amount: rules.hold(account, amount),
    "spent of it": spend,
    "given back": lambda account, _of, amount: rules.release(account, amount),
    "lost in hand": rules.lapse,
    "known unspent": rules.reconcile,
}


def test_the_month_of_a_team_adds_up_line_by_line() -> None:
    (minimum, low), rows = example("month")
    budget = limit(minimum=parse_money(minimum), low_threshold=parse_money(low))
    account = Account("a", None, None, 0)
    assert {row[0] for row in rows} == set(STEPS)
    for what, amount, *told in rows:
        if what == "set aside":
            assert parse_money(amount) <= account.available(budget)
        account = STEPS[what](account, budget, parse_money(amount))
        money = [format_money(value) for value in (account.balance, account.room(budget), account.held)]
        assert told == [*money, account.phase(budget).value], what
        assert account.spent + account.unreconciled + account.held <= account.cap(budget)


def test_grants_burn_in_the_order_that_is_told() -> None:
    (base, used), rows = example("grants")
    shares = [
        Share(name, parse_money(amount), int(priority), NOW, None if expires == "never" else _day(expires))
        for name, priority, expires, amount, _ in rows
    ]
    left = remaining(shares, base=parse_money(base), used=parse_money(used))
    assert {name: format_money(amount) for name, amount in left.items()} == {row[0]: row[4] for row in rows}


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_leases_shrink_as_the_cap_comes_near() -> None:
    (allocation,), rows = example("leases")
    tokens = limit(unit=Unit.TOKENS, allocation=int(allocation))
    account = Account("a", None, None, tokens.allocation)
    for need, desired, ahead, available, granted in rows:
        assert account.available(tokens) == int(available)
        verdict = decide(tokens, account, Want("a", int(need), int(desired), int(ahead)), NOW)
        if isinstance(verdict, Refusal):
            assert (granted, verdict.reason) == ("refused", Reason.CONTENDED)
        else:
            assert verdict == int(granted)
            account = rules.hold(account, verdict)


class Loans:
    """A team that borrows of its department, and what may happen to both; every request takes the same."""

    def __init__(self, ledger: Path, allocation: int, borrowing: int, above: int, lending: int, each: int) -> None:
        top, team = (
            of_tenant("top", above, unit=Unit.USD, lending=lending),
            of_tenant("one", allocation, unit=Unit.USD, borrowing=borrowing),
        )
        self.family = Family(ledger, top, team)
        self.ids = [self.family.id("one"), self.family.id("top")]
        self.each = each
        self.steps: dict[str, Callable[[int], None]] = {
            "set aside": self.set_aside,
            "refused": self.refused,
            "given back": self.given_back,
            "spent": self.spent,
            "refunded": self.refunded,
        }

    def _ask(self, requests: int) -> list[str]:
        """Who refuses."""
        amount = requests * self.each
        reply = self.family.desk.lease("g", *(Want(one, amount, amount) for one in self.ids))
        if reply.refused:
            self.family.desk.lease("g", returns={one.account: one.amount for one in reply.granted})
        return [one.account for one in reply.refused]

    def set_aside(self, requests: int) -> None:
        assert self._ask(requests) == []

    def refused(self, requests: int) -> None:
        assert self._ask(requests) == self.ids[:1]

    def given_back(self, requests: int) -> None:
        self.family.desk.lease("g", returns=dict.fromkeys(self.ids, requests * self.each))

    def spent(self, requests: int) -> None:
        self.set_aside(requests)
        for _ in range(requests):
            self.family.desk.charge(record("g", *(Charge(one, self.each, self.each) for one in self.ids)))

    def refunded(self, requests: int) -> None:
        for one in self.ids:
            change = Change(one, requests * self.each)
            step = partial(corrections.adjust, policy=self.family.desk.policy, change=change)
            self.family.desk.do(partial(step, reason="refund", reference=None, now=LEDGER_NOW))


def test_a_team_borrows_what_it_lacks_line_by_line(tmp_path: Path) -> None:
    numbers, rows = example("loans")
    loans = Loans(tmp_path / "ledger.db", *map(parse_money, numbers))
    assert {row[0] for row in rows} == set(loans.steps)
    for what, requests, *told in rows:
        loans.steps[what](int(requests))
        team, department = loans.family.account("one"), loans.family.account("top")
        money = (team.balance, team.borrowed, department.balance, department.lent)
        assert told == [format_money(amount) for amount in money], what
    loans.family.desk.store.close()
