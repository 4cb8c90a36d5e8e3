"""What a commit is going to change answers questions about windows as the storage does once it has."""

import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.builders import Desk, account_of, budget
from tollkeeper.accounts import Account
from tollkeeper.limits import AccountId
from tollkeeper.windows import format_time
from tollkeeper_ledger.state import State
from tollkeeper_ledger.work import Work

LIMIT = budget()
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
_NAME = AccountId.parse(account_of(LIMIT))


def day(number: int) -> datetime:
    return BEGIN + timedelta(days=number)


def window(first: int, last: int | None) -> Account:
    """An account from one day to another, or for ever."""
    identity = AccountId(_NAME.ref, _NAME.key, format_time(day(first)), _NAME.unit)
    return Account(identity.text, day(first), None if last is None else day(last), allocation=0)


WINDOWS = st.builds(
    lambda first, days: window(first, first + days if days else None), st.integers(0, 9), st.none() | st.integers(1, 6)
)


def told(state: State, asked: Account) -> list[str | None]:
    """The names of the windows before and after one, and of the ones that overlap it on each day."""
    found = [state.previous_account(asked.id), state.next_account(asked) if asked.window_end else None]
    found += [state.overlapping(asked.id, day(number)) for number in range(16)]
    return [one.id if one else None for one in found]


def cut_off(work: Work, account: Account) -> Account:
    """The account, if it is new; else as it stands, no longer than this one: that is how windows change (B7)."""
    known = work.account(account.id)
    if known is None:
        return account
    ends = [one.window_end for one in (known[0], account) if one.window_end]
    return replace(known[0], window_end=min(ends, default=None))


def one_after_the_other(windows: list[Account]) -> list[Account]:
    """The same without overlaps: at each moment one account of a limit and key counts (B7)."""
    ordered = sorted({one.id: one for one in windows}.values(), key=lambda one: one.id)
    starts = [one.window_start for one in ordered[1:]]
    ends = [min(filter(None, (one.window_end, start))) for one, start in zip(ordered, starts, strict=False)]
    return [replace(one, window_end=end) for one, end in zip(ordered, ends, strict=False)] + ordered[-1:]


@settings(deadline=None)
@given(st.lists(WINDOWS, max_size=4), st.lists(WINDOWS, max_size=4), WINDOWS)
def test_a_work_answers_as_the_storage_does_after_its_commit(
    before: list[Account], changed: list[Account], asked: Account
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder) / "ledger.db", LIMIT)
        with closing(desk.store):
            for account in one_after_the_other(before):
                desk.do(partial(Work.put, account=account, unit="USD"))
            answers: list[list[str | None]] = []

            def step(work: Work) -> None:
                for account in changed:
                    work.put(cut_off(work, account), "USD")
                answers.append(told(work, asked))

            desk.do(step)
            answers.append(told(desk.sqlite, asked))
    assert answers[0] == answers[1]
