"""Who has what an account had left when it ended.

The accounts of a limit, key and unit stand in one line, by the moments at which they began to count (B7). Each that has
ended has one heir, the next in the line: the one that cut it off, or the one that was opened, or came back, after it had
ended by itself. That is the next window's account, unless a mark says that it is another one.

A window that comes back stands in the line twice, with one account. What comes late for one that it followed the first time
is for that first time: it goes past the account, to where that went on then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import Any

from tollkeeper.accounts import Account
from tollkeeper.grants import carries
from tollkeeper.limits import Limit
from tollkeeper.windows import format_time
from tollkeeper_ledger.work import Work

CARRY, CONTINUE = "carry", "continue"
GRANTS_ONLY = "grants"
FOLLOW, BACK = "follow/", "back/"
"""What the marks begin with of an heir that is not the next window's account, and of an account that came
back; the rest is the account, and when it ended or how often that was."""


def cut_into(work: Work, account: Account) -> str | None:
    """The account in which one goes on whose window was cut off where it ends now; `None` for one that ended by itself."""
    if account.window_end is None:
        return None
    booked = work.transaction(cut_mark(account.id, account.window_end))
    return str(booked["usage"]["into"]) if booked else None


def cut_mark(account: str, end: datetime) -> str:
    """Names the transaction by which an account that was cut off then goes on in another one."""
    return f"{CONTINUE}/{account}/{format_time(end)}"


def follow_mark(account: str, end: datetime) -> str:
    """Names the transaction that says which account followed one that ended by itself, where that is not the next window's."""
    return f"{FOLLOW}{account}/{format_time(end)}"


def _back_mark(account: str, number: int) -> str:
    return f"{BACK}{account}/{number}"


def next_back_mark(work: Work, account: Account) -> str:
    """A mark of an account that comes back, by which `heir_of` finds where it went on before."""
    marks = (_back_mark(account.id, number) for number in count())
    return next(mark for mark in marks if work.transaction(mark) is None)


def before(work: Work, account: Account) -> Account | None:
    """The account whose window ended before this one's began; where it was cut off, the one in which it goes on."""
    return _where_it_goes_on(work, work.previous_account(account.id))


def last_ended(work: Work, account: Account, now: datetime) -> Account | None:
    """The account of the same limit, key and unit that was the last to end; where it was cut off, the one in which it goes
    on. Its window may have begun after this one's."""
    head, _, unit = account.id.rsplit("@", 2)
    return _where_it_goes_on(work, work.previous_account(f"{head}@{format_time(now)}@{unit}"))


def _where_it_goes_on(work: Work, account: Account | None) -> Account | None:
    while account is not None and (into := cut_into(work, account)):
        known = work.account(into)
        account = known[0] if known else None
    return account


@dataclass(frozen=True, slots=True)
class Heir:
    """The account that has what one that ended had left, in a window that began at `start`.

    `is_cut`: it has everything, what is used up as well. `grants_only`: of what comes late nothing but what is left of
    grants is for it; it has nothing else from the one that ended.
    """

    account: Account
    start: datetime | None
    is_cut: bool = False
    grants_only: bool = False


def heir_of(work: Work, limit: Limit, account: Account) -> Heir | None:
    """The heir of an account that has ended; `None` while nothing has followed it, or if nothing is left for who does."""
    if account.window_end is None:
        return None
    if cut := work.transaction(cut_mark(account.id, account.window_end)):
        return _heir(work, cut, is_cut=True)
    if not carries(limit):
        return None
    if followed := work.transaction(follow_mark(account.id, account.window_end)):
        return _heir(work, followed)
    following = work.next_account(account)
    return as_it_was(work, Heir(following, following.window_start), since=account.window_end) if following else None


def _heir(work: Work, booked: Mapping[str, Any], *, is_cut: bool = False) -> Heir | None:
    told = booked["usage"]
    if known := work.account(told["into"]):
        since = datetime.fromisoformat(told.get("since") or booked["time"])
        return as_it_was(work, Heir(known[0], known[0].window_start, is_cut, told.get("only") == GRANTS_ONLY), since)
    return None


def as_it_was(work: Work, heir: Heir, since: datetime) -> Heir:
    """The heir that has by now what one got then: where its account has come back since, and goes on with another one, that
    is where it went on before."""
    back = _came_back(work, heir.account, since)
    if back is None:
        return heir
    told = back["usage"]
    former = work.account(told["former"]) if told["former"] else None
    if former is None:
        # It had ended by itself, and how its window ended is known no longer.
        return replace(heir, grants_only=True)
    return as_it_was(work, replace(heir, account=former[0]), datetime.fromisoformat(told["until"]))


def _came_back(work: Work, account: Account, since: datetime) -> Mapping[str, Any] | None:
    """The first transaction after an instant by which an account came back."""
    number = 0
    while back := work.transaction(_back_mark(account.id, number)):
        if datetime.fromisoformat(back["time"]) > since:
            return back
        number += 1
    return None
