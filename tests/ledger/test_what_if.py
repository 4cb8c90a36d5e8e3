"""The past under other policies and prices (R46), out of real ledgers."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.builders import NOW, Desk, budget, policy, record
from tollkeeper.amounts import LARGEST, Unit
from tollkeeper.books import Grant
from tollkeeper.errors import InvalidValue
from tollkeeper.history import History
from tollkeeper.leases import Want
from tollkeeper.lenders import with_lenders
from tollkeeper.limits import Anonymous, Dimension, Enforcement, Limit
from tollkeeper.policy import PolicySet
from tollkeeper.prices import PriceEntry, PriceList
from tollkeeper.usage import Buckets, Caller, Charge, UsageRecord
from tollkeeper.whatif import what_if
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import corrections
from tollkeeper_ledger.chain import GENESIS, link
from tollkeeper_ledger.corrections import Change
from tollkeeper_ledger.errors import ChainBroken
from tollkeeper_ledger.history import read_history

DAILY = Calendar.every(Every.DAY)
MONEY = budget("money", 900, calendar=DAILY, rollover=300, minimum=-20)
TOKENS = budget("tokens", 2500, unit=Unit.TOKENS, calendar=DAILY)
IN_FORCE = (MONEY, TOKENS)
PRICE = PriceList().with_books([PriceEntry("openai", "gpt-5", {"input": Decimal("0.001"), "output": Decimal("0.002")})])


class Past:
    """A ledger in which every request holds before it is let in, and settles later."""

    def __init__(self, path: Path, *limits: Limit) -> None:
        self.limits = limits
        self.desk = Desk(path, *limits)
        self.waiting: list[tuple[UsageRecord, dict[str, int]]] = []
        self.count = 0

    def ask(self, at: datetime, buckets: Buckets, over: int, user: str = "alice") -> bool:
        """Let a request in if all limits have room for its hold, which is `over` above what it uses."""
        self.count += 1
        holder = f"h{self.count}"
        price = PRICE.find("openai", "gpt-5", at)
        assert price is not None
        cost, charges = price.cost(buckets), []
        held: dict[str, int] = {}
        for limit in self.limits:
            account, amount = limit.account_at((), at)[0].text, limit.amount_of(buckets, cost)
            if limit.is_hard:
                if self.desk.lease(holder, Want(account, amount + over, amount + over), now=at).refused:
                    self.desk.lease(holder, returns=held, now=at)
                    return False
                held[account] = amount + over
            charges.append(Charge(account, amount, held.get(account, 0)))
        values = {"buckets": buckets, "admitted_at": at, "finished_at": at, "caller": Caller("team", user=user)}
        self.waiting.append((record(holder, *charges, cost=cost, request=f"r{self.count}", **values), held))
        return True

    def settle(self, at: datetime) -> None:
        if self.waiting:
            usage, held = self.waiting.pop(0)
            self.desk.charge(usage, now=at)
            back = {c.account: held[c.account] - c.amount for c in usage.charges if c.account in held}
            self.desk.lease(usage.holder, returns=back, now=at)

    def history(self) -> History:
        lines = self.desk.export()
        self.desk.store.close()
        return read_history(lines)


def past(path: Path, amounts: Sequence[int], limit: Limit = MONEY, users: Sequence[str] = ("alice",)) -> History:
    made = Past(path / "ledger.db", replace(limit, enforcement=Enforcement.SOFT))
    for number, amount in enumerate(amounts):
        at = NOW + timedelta(minutes=number)
        made.ask(at, Buckets(input=amount), 0, users[number % len(users)])
        made.settle(at + timedelta(seconds=1))
    return made.history()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "settle", "settle", "grant", "adjust", "refund"]),
        st.integers(1, 200),  # minutes since the step before
        st.integers(1, 300),
        st.integers(0, 120),
    ),
    min_size=12,
    max_size=50,
)


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_under_the_policies_that_were_in_force_nobody_is_refused_and_costs_are_what_was_booked(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int, int]]
) -> None:
    """R46."""
    made, at = Past(tmp_path_factory.mktemp("ledger") / "ledger.db", *IN_FORCE), NOW
    admitted = 0
    for number, (step, minutes, amount, over) in enumerate(steps):
        at += timedelta(minutes=minutes)
        if step == "ask":
            admitted += made.ask(at, Buckets(input=amount, output=over), over)
        elif step == "settle":
            made.settle(at)
        elif step == "grant":
            ends = at + timedelta(minutes=20 * over) if over else None
            one = Grant(f"g{number}", "g", MONEY.ref, amount, "TopUp", None, over % 3, at, None, ends)
            made.desk.book_grant(one, MONEY, at)
        else:
            _corrected(made, step, f"r{number}", amount, at)
    while made.waiting:
        at += timedelta(minutes=7)
        made.settle(at)
    history = made.history()
    assert len(history.usages) == admitted
    for prices in (None, PRICE):
        answer = what_if(history, policy(*IN_FORCE), prices)
        assert answer.refusals == []
        assert answer.total.cost == answer.total.booked == sum(usage.record.cost or 0 for usage in history.usages)


def _corrected(made: Past, step: str, request: str, amount: int, at: datetime) -> None:
    given, change = policy(*IN_FORCE), Change(MONEY.account_at((), at)[0].text, amount)
    # What cannot be given back is refused, and then nothing is booked.
    with suppress(InvalidValue):
        if step == "adjust":
            made.desk.do(lambda work: corrections.adjust(work, given, change, reason="x", reference=None, now=at))
        else:
            made.desk.do(lambda work: corrections.refund(work, given, request, cost=None, reason="x", now=at))


def refused(history: History) -> list[str]:
    return [one.request for one in what_if(history, policy(*IN_FORCE)).refusals]


def test_what_a_correction_made_room_for_is_let_in_again(tmp_path: Path) -> None:
    made = Past(tmp_path / "ledger.db", *IN_FORCE)
    assert made.ask(NOW, Buckets(input=850), 0)
    made.settle(NOW + timedelta(minutes=1))
    change = Change(MONEY.account_at((), NOW)[0].text, 800)
    given, at = policy(*IN_FORCE), NOW + timedelta(minutes=2)
    made.desk.do(lambda work: corrections.adjust(work, given, change, reason="x", reference=None, now=at))
    assert made.ask(NOW + timedelta(minutes=3), Buckets(input=800), 0)
    made.settle(NOW + timedelta(minutes=4))
    history = made.history()
    assert refused(history) == []
    assert refused(replace(history, corrections=())) == ["r2"]


def test_what_a_hold_gave_back_after_the_windows_end_is_let_in_again(tmp_path: Path) -> None:
    made, midnight = Past(tmp_path / "ledger.db", *IN_FORCE), NOW.replace(hour=0) + timedelta(days=1)
    assert made.ask(midnight - timedelta(minutes=1), Buckets(input=300), 600)
    assert made.ask(midnight + timedelta(minutes=1), Buckets(input=10), 0)
    made.settle(midnight + timedelta(minutes=2))
    made.settle(midnight + timedelta(minutes=3))
    assert made.ask(midnight + timedelta(minutes=4), Buckets(input=1150), 0)
    made.settle(midnight + timedelta(minutes=5))
    assert refused(made.history()) == []


def test_what_was_let_in_out_of_a_lease_that_was_out_is_let_in_again(tmp_path: Path) -> None:
    desk, account = Desk(tmp_path / "ledger.db", MONEY), MONEY.account_at((), NOW)[0].text
    desk.lease("g", Want(account, 920, 920), now=NOW)
    for number, cost in enumerate((450, 400, 60)):
        at = NOW + timedelta(minutes=number)
        usage = {"buckets": Buckets(input=cost), "admitted_at": at, "finished_at": at}
        desk.charge(record("g", Charge(account, cost, cost), cost=cost, request=f"r{number}", **usage), now=at)
    history = read_history(desk.export())
    desk.store.close()
    assert what_if(history, policy(MONEY)).refusals == []
    tighter = what_if(history, policy(replace(MONEY, allocation=899)))
    assert [one.reason for one in tighter.refusals] == ["insufficient"]


def test_a_smaller_budget_refuses_from_the_request_that_does_not_fit(tmp_path: Path) -> None:
    history = past(tmp_path, [100] * 8)
    answer = what_if(history, policy(replace(MONEY, allocation=450, rollover=0, minimum=0)))
    assert (answer.total.requests, answer.total.refused, answer.total.booked) == (8, 4, 800)
    assert (answer.total.cost, answer.total.refused_cost) == (400, 400)
    first = answer.refusals[0]
    assert (first.request, first.at, first.limit) == ("r5", NOW + timedelta(minutes=4), "TokenBudget team/money")
    assert answer.by_limit["TokenBudget team/money"].first_refused == NOW + timedelta(minutes=4)


def test_b3_refuses_what_would_fit_once_the_room_is_below_the_mean(tmp_path: Path) -> None:
    history = past(tmp_path, [100, 100, 100, 10])
    answer = what_if(history, policy(replace(MONEY, allocation=350, rollover=0, minimum=0)))
    assert [(refused.request, refused.reason) for refused in answer.refusals] == [("r4", "insufficient")]


def test_what_is_refused_leaves_room_for_others(tmp_path: Path) -> None:
    history = past(tmp_path, [400, 400, 80])
    answer = what_if(history, policy(replace(MONEY, allocation=790, rollover=0, minimum=0)))
    assert [refused.request for refused in answer.refusals] == ["r2", "r3"] or answer.total.refused == 1


def test_answers_are_broken_down_by_tenant_user_and_model(tmp_path: Path) -> None:
    history = past(tmp_path, [100] * 6, users=("alice", "bob"))
    answer = what_if(history, policy(budget("mine", 200, per=(Dimension.USER,), calendar=DAILY)))
    assert {user: (t.requests, t.refused) for user, t in answer.by_user.items()} == {"alice": (3, 1), "bob": (3, 1)}
    assert answer.by_model["openai/gpt-5"].requests == 6
    assert answer.by_tenant["team"].refused == 2


def test_only_requests_of_the_asked_time_are_counted_and_earlier_ones_fill_the_window(tmp_path: Path) -> None:
    history = past(tmp_path, [100] * 8)
    tight = policy(replace(MONEY, allocation=450, rollover=0, minimum=0))
    answer = what_if(history, tight, since=NOW + timedelta(minutes=3), until=NOW + timedelta(minutes=6))
    assert (answer.total.requests, answer.total.refused) == (3, 2)


def test_other_prices_say_what_it_would_have_cost(tmp_path: Path) -> None:
    history = past(tmp_path, [100] * 4)
    dearer = PriceList().with_books([PriceEntry("openai", "gpt-*", {"input": Decimal("0.003")})])
    answer = what_if(history, policy(), dearer)
    assert (answer.total.booked, answer.total.cost) == (400, 1200)


def test_a_model_without_a_price_is_named_and_refused_where_money_is_limited(tmp_path: Path) -> None:
    history = past(tmp_path, [100] * 4)
    free = what_if(history, policy(), PriceList())
    assert (free.unpriced, free.total.refused, free.total.unpriced) == ({"openai/gpt-5": 4}, 0, 4)
    limited = what_if(history, policy(MONEY), PriceList())
    assert (limited.total.refused, limited.refusals[0].reason) == (4, "the model has no price")


def test_callers_without_the_key_that_a_limit_asks_for_are_refused(tmp_path: Path) -> None:
    strict = budget("each", 10**6, per=(Dimension.FEATURE,), anonymous=Anonymous.REFUSE)
    assert what_if(past(tmp_path, [5]), policy(strict)).refusals[0].reason == "it refuses callers without a key"


def test_tenants_that_the_policies_do_not_have_are_named(tmp_path: Path) -> None:
    history = past(tmp_path, [5])
    without = replace(policy(MONEY), tenants={"org": policy().tenants["org"]})
    assert what_if(history, without).strangers == {"team": 1}


def test_soft_limits_refuse_nobody(tmp_path: Path) -> None:
    soft = replace(MONEY, allocation=1, enforcement=Enforcement.SOFT)
    assert what_if(past(tmp_path, [100] * 3), policy(soft)).refusals == []


ABOVE = budget("above", 2000, tenants=frozenset({"org"}), lending=300)
BELOW = budget("below", 300, calendar=DAILY, borrowing=400)


def lending(*limits: Limit) -> PolicySet:
    made = policy(*limits)
    return replace(made, limits=with_lenders(limits, made.tenants)[0])


def past_with_loans(path: Path, steps: Sequence[tuple[int, int]]) -> History:
    """Requests of so much, each holding so much more, settled when the second one after it was asked for."""
    made = Past(path / "ledger.db", BELOW, ABOVE)
    made.desk.policy = lending(BELOW, ABOVE)
    for number, (amount, over) in enumerate(steps):
        made.ask(NOW + timedelta(hours=number), Buckets(input=amount), over)
        if number % 2:
            made.settle(NOW + timedelta(hours=number, minutes=1))
    while made.waiting:
        made.settle(NOW + timedelta(hours=len(steps)))
    return made.history()


def test_what_a_loan_let_in_is_let_in_again_and_refused_by_policies_that_lend_less(tmp_path: Path) -> None:
    history = past_with_loans(tmp_path, [(100, 0)] * 8)
    assert len(history.usages) == 6, "300 of its own and 300 that are lent"
    assert what_if(history, lending(BELOW, ABOVE)).refusals == []
    less = what_if(history, lending(BELOW, replace(ABOVE, lending=150)))
    assert [(one.request, one.limit) for one in less.refusals] == [
        ("r5", "TokenBudget team/below"),
        ("r6", "TokenBudget team/below"),
    ]
    assert what_if(history, lending(replace(BELOW, borrowing=0), ABOVE)).total.refused == 3


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(1, 150), st.integers(0, 60)), min_size=6, max_size=40))
def test_under_the_policies_that_were_in_force_loans_let_everybody_in_again(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    history = past_with_loans(tmp_path_factory.mktemp("ledger"), steps)
    assert what_if(history, lending(BELOW, ABOVE)).refusals == []


def forged(changes: dict[str, object], entries: list[object] | None = None) -> list[bytes]:
    """A chain of one usage that holds by its hash and says something that cannot be."""
    usage = record("g", request="r1", cost=5).to_json()
    usage["request_id"] = usage.pop("id")
    body = {
        "seq": 1, "id": "t", "time": NOW.isoformat(), "kind": "usage", "entries": entries or [], "usage": usage | changes,
    }  # fmt: skip
    text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return [orjson.dumps(orjson.loads(text) | {"prev": GENESIS.hex(), "hash": link(GENESIS, text).hex()})]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cost": -5}, "cost=-5 is not an amount of nano-dollars"),
        ({"cost": 1.5}, "cost=1.5 is not an amount"),
        ({"cost": LARGEST + 1}, "is not an amount of nano-dollars"),
        ({"buckets": {"input": -1}}, "input=-1 is not a count of tokens"),
        ({"buckets": {"nonsense": 1}}, "'nonsense' is not a bucket"),
        ({"admitted_at": "2026-11-21T12:00:00"}, "its times have no zone"),
        ({"caller": None}, "a usage record is damaged"),
    ],
)
def test_a_usage_that_cannot_be_is_named_by_its_transaction(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ChainBroken, match=f"transaction 1: it is not a usage: .*{says}"):
        read_history(forged(changes))


ACCOUNT = "TokenBudget/team/monthly//@forever@USD"


@pytest.mark.parametrize(
    ("account", "unit", "amount", "says"),
    [
        (f"{ACCOUNT}#spent", "USD", 2**63, "is larger than any amount can be"),
        (f"{ACCOUNT}#spent", "USD", 1.5, "1.5 is not a whole number"),
        (f"{ACCOUNT}#spent", "Tokens", 1, "it is in Tokens, and TokenBudget/team/monthly//@forever@USD is counted in USD"),
        (f"{ACCOUNT}#pocket", "USD", 1, "is none of an account's sides"),
        ("nobody#spent", "USD", 1, "it is not an entry .*is not an account"),
        (f"{ACCOUNT}#spent", "USD", 1, "sum to 1, not to zero"),
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_is_named_by_its_place(account: str, unit: str, amount: object, says: str) -> None:
    entry = {"account": account, "unit": unit, "amount": amount}
    with pytest.raises(ChainBroken, match=f"line 1: transaction 1.*{says}"):
        read_history(forged({}, [entry]))
