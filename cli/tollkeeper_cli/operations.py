"""How what the control socket is asked is carried out on the ledger: corrections, nothing else.

The same code runs in `tollkeeper up` and in a command that opened the ledger itself.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tollkeeper.accounts import Account
from tollkeeper.amounts import format_amount
from tollkeeper.errors import InvalidValue
from tollkeeper.limits import LONGEST_ACCOUNT, AccountId
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper.prices import PriceList
from tollkeeper_cli.asked import Adjust, Correct, Refund, read
from tollkeeper_cli.errors import WrongRequest
from tollkeeper_ledger import corrections, opening
from tollkeeper_ledger.corrections import Change, Corrected, Correction
from tollkeeper_ledger.storage import LedgerAt, LedgerStoreReader
from tollkeeper_ledger.work import Work
from tollkeeper_webhook.authority import LedgerAuthority

_NEVER = datetime.max.replace(tzinfo=UTC)


async def perform(authority: LedgerAuthority, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Carry out a request. Raises `InvalidValue` for what is not one, and what the ledger raises."""
    match asked := read(raw):
        case Adjust():
            return await _adjust(authority, asked)
        case Refund():
            return _told(await authority.correct(partial(_refund, asked=asked)))
        case Correct():
            return await authority.correct(partial(_correct, asked=asked))


async def _adjust(authority: LedgerAuthority, asked: Adjust) -> Mapping[str, Any]:
    """What is read comes first, on a thread that may wait: the loop serves others, and a step reads its `Work` alone."""
    known, vanished = await authority.ask(partial(_read_before, asked=asked))

    def step(work: Work, policy: PolicySet, now: datetime) -> Mapping[str, Any]:
        account, is_new = _chosen(known, asked, asked.at or now), False
        limit = policy.limit(asked.ref)
        if account is None:
            asked.check_names()
        if account is None and limit is not None and _fits(asked, limit.each_tenant + len(limit.per)):
            is_new = _may_be_opened(work, limit.account_at(asked.key, now)[0].text)
            account = opening.open_account(work, limit, asked.key, now).id
        if account is None:
            raise InvalidValue(_missing(asked, known))
        change = Change(account, asked.amount_in(AccountId.parse(account).unit))
        if asked.unreconciled:
            holders = vanished.get(account, ())
            return _told(corrections.release(work, policy, change, holders=holders, reason=asked.reason, now=now))
        adjusted = corrections.adjust(work, policy, change, reason=asked.reason, reference=asked.reference, now=now)
        return _told(adjusted, new=account if is_new else None)

    return await authority.correct(step)


def _may_be_opened(work: Work, account: str) -> bool:
    """Whether an account is new. Raises `WrongRequest` for one whose name is too long."""
    if len(account) > LONGEST_ACCOUNT:
        raise WrongRequest(
            f"--key is too long: percent-encoded, its account has {len(account)} characters and may have {LONGEST_ACCOUNT}"
        )
    return work.account(account) is None


def _read_before(reader: LedgerStoreReader, asked: Adjust) -> tuple[Sequence[Account], Mapping[str, Collection[str]]]:
    """The accounts that may be meant, and who vanished with something of each of them in hand."""
    known = reader.accounts_named(asked.ref, asked.key)
    if not asked.unreconciled:
        return known, {}
    return known, {account.id: reader.vanished_holders(account.id) for account in known if account.unreconciled}


def _fits(asked: Adjust, keys: int) -> bool:
    return asked.at is None and asked.unit is None and len(asked.key) == keys


def _chosen(known: Sequence[Account], asked: Adjust, at: datetime) -> str | None:
    """The one account whose window holds the instant."""
    if at.tzinfo is None:
        raise WrongRequest(f"--at {at.isoformat()} has no time zone: write an offset, such as {at.isoformat()}Z")
    found = [
        account for account in known if account.holds(at) and asked.unit in (None, AccountId.parse(account.id).unit)
    ]
    units = sorted({AccountId.parse(account.id).unit for account in found})
    if len(units) > 1:
        raise InvalidValue(f"{asked.ref}: it was counted in {' and '.join(units)} in this window; name one with --unit")
    # A window that was cut off counted until then; the one that it goes on in may begin before.
    first = min(found, key=lambda account: account.window_end or _NEVER, default=None)
    return first.id if first else None


def _missing(asked: Adjust, known: Sequence[Account]) -> str:
    what = f"{asked.ref} " + (f"with the key {','.join(asked.key)}" if asked.key else "without a key")
    if not known:
        rest = "" if asked.limit else "; the limit of a TokenQuota is named by --limit"
        return f"{what} has no account; see that name, --limit and --key are right, in the order of per:{rest}"
    units = sorted({AccountId.parse(account.id).unit for account in known})
    if asked.unit is not None and asked.unit not in units:
        counted = " and ".join(units)
        return f"{what} never counted {asked.unit}, but {counted}; name that with --unit, or leave --unit out"
    windows = ", ".join(AccountId.parse(account.id).window for account in known[-5:])
    return f"{what} has no account for this time; --at picks one of its windows, the last of which are {windows}"


def _refund(work: Work, policy: PolicySet, now: datetime, *, asked: Refund) -> Corrected:
    return corrections.refund(work, policy, asked.request, cost=asked.cost, reason=asked.reason, now=now)


def _correct(work: Work, policy: PolicySet, now: datetime, *, asked: Correct) -> Mapping[str, Any]:
    if booked := work.transaction(asked.mark):
        return {"transaction": booked["id"], "accounts": [], "again": True}
    changes = tuple(Change(account, amount) for account, amount in asked.changes)
    correction = Correction(corrections.CORRECT, changes, asked.reason, asked.details, (asked.mark,))
    return _told(corrections.correct(work, policy, correction, now))


def _told(corrected: Corrected, new: str | None = None) -> Mapping[str, Any]:
    """What was booked, an entry for each account; `new` is the one that was opened for it."""
    lines: list[dict[str, Any]] = []
    for account, amount, spent, balance in corrected.lines:
        unit = AccountId.parse(account).unit
        shown = {"amount": amount, "spent": spent, "balance": balance}
        amounts = {name: format_amount(value, unit) for name, value in shown.items()}
        lines.append({"account": account, "unit": unit.value, "new": account == new} | amounts)
    return {"transaction": corrected.transaction, "accounts": lines}


async def perform_alone(ledger: LedgerAt, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Open a ledger that nothing runs over, carry out a request, and close it again.

    Raises what `LedgerAuthority` and `perform` raise.
    """
    policy = CurrentPolicy(PolicySet(0, {}, (), PriceList()))
    async with LedgerAuthority(ledger, policy, lambda: datetime.now(UTC)) as authority:
        return await perform(authority, raw)
