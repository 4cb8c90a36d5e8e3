"""A budget that is deleted and written again with another window (B7), and what is done with it meanwhile."""

from datetime import UTC, datetime, timedelta

from tests.ledger.builders import NOW, Desk, account_of, budget, policy, record
from tests.ledger.stints import Left
from tollkeeper.grants import own_left
from tollkeeper.leases import Want
from tollkeeper.limits import Limit
from tollkeeper.usage import Charge
from tollkeeper.windows import Calendar, Every
from tollkeeper_ledger import corrections, handing
from tollkeeper_ledger.corrections import Change

TODAY = datetime(2026, 11, 21, tzinfo=UTC)
MONTH, WEEK, DAY, OTHER_ZONE, FROM_TODAY, PREPAID = (
    budget(calendar=calendar)
    for calendar in (
        Calendar.every(Every.MONTH),
        Calendar.every(Every.WEEK),
        Calendar.every(Every.DAY),
        Calendar.every(Every.MONTH, "Asia/Tokyo"),
        Calendar.custom(timedelta(days=30), TODAY + timedelta(hours=1)),
        Calendar.FOREVER,
    )
)
EVERY_WINDOW = (MONTH, WEEK, DAY, OTHER_ZONE, FROM_TODAY, PREPAID)


def write_again(desk: Desk, limit: Limit, now: datetime = NOW) -> str:
    """The object is deleted and written again; the operator opens what it counts in."""
    desk.policy = policy(limit)
    desk.open(limit, now)
    return account_of(limit, now)


def spend(desk: Desk, account: str, amount: int, now: datetime = NOW) -> None:
    assert desk.lease("g1", Want(account, amount, amount), now=now).granted
    desk.charge(record("g1", Charge(account, amount, amount)), now=now)


def adjust(desk: Desk, account: str, amount: int, now: datetime = NOW) -> None:
    change = Change(account, amount)
    desk.do(lambda work: corrections.adjust(work, desk.policy, change, reason="x", reference=None, now=now))


def left_in(desk: Desk, name: str) -> Left:
    """What an account has left of its own and of grants; what is held is used."""
    account = desk.account(name)
    own = own_left(account, desk.do(lambda work: handing.alive(work, account)))
    return Left(own, account.balance - account.held - own)
