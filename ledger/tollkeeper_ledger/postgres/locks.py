"""How a commit locks what it looked at, in the one order of all writers, and what it finds there then.

Nothing here knows what was read before: `memory` compares.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from tollkeeper_ledger.postgres.arrays import integers, texts
from tollkeeper_ledger.postgres.known import Neighbour, Seen
from tollkeeper_ledger.postgres.session import Session, Statement
from tollkeeper_ledger.state import limit_and_key

_VERSIONS = "SELECT {column}, version FROM {table} WHERE {column} = ANY(%s::text[])"
_LOCK_BY_NUMBER = "SELECT account, version FROM held WHERE account = ANY(%s::bigint[]) ORDER BY account FOR UPDATE"
_LOCK_BY_ID = (
    "SELECT a.id, h.version FROM account_rows a JOIN held h ON h.account = a.number WHERE a.id = ANY(%s::text[]) "
    "ORDER BY h.account FOR UPDATE OF h"
)
_LOCK_HOLDERS = _VERSIONS.format(table="holders", column="holder") + " ORDER BY holder FOR UPDATE"


class Versions(NamedTuple):
    """The versions of what is there, by name."""

    accounts: dict[str, int]
    holders: dict[str, int]


def versions(session: Session, accounts: Collection[str], holders: Collection[str]) -> Versions:
    """The versions in one snapshot, without locks."""
    rows = session.ask(
        "SELECT 0, id, version FROM accounts WHERE id = ANY(%s) "
        "UNION ALL SELECT 1, holder, version FROM holders WHERE holder = ANY(%s)",
        (sorted(accounts), sorted(holders)),
    )
    found = Versions({}, {})
    for which, name, version in rows:
        found[which][name] = version
    return found


def locked_versions(
    session: Session,
    accounts: set[str],
    holders: set[str],
    numbers: Mapping[Any, str],
    *,
    wait: bool,
    begin: bool = False,
) -> tuple[Versions, Seen]:
    """Lock accounts, by their `numbers` where those are known, then holders, in a transaction that may `begin` with it.

    Answers the versions of all that is there, and what of it is locked: what another writer made meanwhile is not.
    """
    unless_free = "" if wait else " NOWAIT"
    locks: list[Statement] = []
    if numbers:
        locks.append((_LOCK_BY_NUMBER + unless_free, (integers(numbers),)))
    elif accounts:
        locks.append((_LOCK_BY_ID + unless_free, (texts(sorted(accounts)),)))
    if holders:
        locks.append((_LOCK_HOLDERS + unless_free, (texts(sorted(holders)),)))
    answers = iter(session.ask_all([("BEGIN", ()), *locks])[1:] if begin else session.ask_all(locks))
    found = [dict[str, int](next(answers) if names else ()) for names in (accounts, holders)]
    if numbers:
        found[0] = {numbers[number]: version for number, version in found[0].items()}
    locked = Seen(set(found[0]), set(found[1]))
    wanted = (("accounts", "id", accounts), ("holders", "holder", holders))
    for (table, column, names), known in zip(wanted, found, strict=True):
        if absent := names - known.keys():
            # What another writer made while this one waited for a lock is not in that statement's snapshot.
            sql = _VERSIONS.format(table=table, column=column)
            known.update(dict[str, int](session.ask(sql, (texts(sorted(absent)),))))
    return Versions(*found), locked


def taken(session: Session, names: Collection[str]) -> frozenset[str]:
    """Which of these requests and marks are booked."""
    if not names:
        return frozenset()
    wanted = sorted(names)
    rows = session.ask(
        "SELECT id FROM requests WHERE id = ANY(%s) UNION ALL SELECT name FROM marks WHERE name = ANY(%s)",
        (wanted, wanted),
    )
    return frozenset(row[0] for row in rows)


def changed_neighbour(
    session: Session, looked_for: Mapping[Neighbour, str | None], opened: Collection[str]
) -> str | None:
    """The first account next to which another window is found now than before, apart from those that were `opened`."""
    own = defaultdict[tuple[str, str], list[str]](list)
    for account in opened:
        own[limit_and_key(account)].append(account)
    answers = session.ask_all([wanted.question(own.get(limit_and_key(wanted.account), ())) for wanted in looked_for])
    for (wanted, found), rows in zip(looked_for.items(), answers, strict=True):
        now = wanted.found_in(rows)
        if now != found and not (wanted.where == "at" and _is_older(session, now, found)):
            return wanted.account
    return None


def _is_older(session: Session, now: str | None, found: str | None) -> bool:
    """Whether what overlaps now does so only because this commit, which has `found` locked, cut that off: the one that was
    opened last is what is looked for, so only a newer one is news."""
    if now is None or found is None:
        return now is None
    sql = "SELECT number FROM accounts WHERE id = ANY(%s::text[]) ORDER BY id = %s DESC"
    (of_found,), (of_now,) = session.ask(sql, (texts([found, now]), found))
    return bool(of_now < of_found)
