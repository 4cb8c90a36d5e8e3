"""A ledger with millions of usages behind its sums, made once and kept: nobody waits for it twice.

The ledger's own code makes the tables, opens the accounts, adds up hours and days, and books the last of the requests. The
requests before those are left out, with their charges and the chain: no question asked here reads them. They stand in a
plain table beside it, for the peer. Their tokens are distributed as in one hour of a production code-completion service
(AzurePublicDataset, "Azure LLM inference trace 2023", CC BY 4.0).
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import ingest, loading
from bench.tree import NOW, Tree
from bench.workspace import kept, writing
from tollkeeper_ledger import bookkeeping, columns, opening, packed, rollups, schema
from tollkeeper_ledger.columns import Texts
from tollkeeper_ledger.rollups import COLUMNS, DAY, DIMENSIONS, rollups_of
from tollkeeper_ledger.rows import to_micros

PROJECTS, USERS, MODELS, FEATURES, ASSISTANTS = 64, 20, 5, 8, 4
A_SESSION = 10
"""Requests."""

BOOKED = 50
"""The last requests of each project, which the ledger booked itself: pages read what was charged last."""

TREE = Tree(PROJECTS)
BEGIN = NOW.replace(day=1, hour=0)
_FIRST = to_micros(BEGIN) or 0
_DAYS = (NOW - BEGIN).days
_MINUTE = 60_000_000
_SHARES = (0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
_CONTEXT = (3, 75, 578, 1469, 2744, 5186, 7302, 7436, 7437)
_GENERATED = (6, 6, 9, 13, 24, 55, 90, 249, 1899)
RAW_COLUMNS = ("at", "tenant", "user_name", "feature", "model", "input_tokens", "output_tokens", "cost", "micros")

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The ledger, and the plain table of the same usages."""

    ledger: Path
    raw: Path


def loaded(usages: int) -> Loaded:
    """The kept one of this size, made if need be."""
    made_by = hashlib.sha256(
        b"".join(Path(source.__file__ or "").read_bytes() for source in (loading, schema, columns, packed, rollups))
    )
    version = f"version-{len(schema.MIGRATIONS)}-{made_by.hexdigest()[:12]}"
    folder = kept(f"usages-{usages}@{version}", lambda made: _load(made, usages))
    return Loaded(folder / "ledger.db", folder / "raw.db")


def _load(folder: Path, usages: int) -> None:
    path = folder / "ledger.db"
    with writing(path) as writer:
        for limit in TREE.policy.limits:
            writer.submit(partial(opening.open_account, limit=limit, key=(), now=NOW)).result(30)
        for project in range(PROJECTS):
            last = ingest.report(project, 0, f"gateway-{project}", TREE)[:BOOKED]
            step = partial(bookkeeping.charge_all, policy=TREE.policy, records=last, now=NOW)
            writer.submit(step).result(30)
    with closing(_open(path)) as ledger, closing(_open(folder / "raw.db")) as raw:
        raw.execute(f"CREATE TABLE usages ({', '.join(RAW_COLUMNS)})")
        ids = dict(ledger.execute("SELECT id, number FROM accounts").fetchall())
        numbers = [[ids[account] for account in TREE.path(project)] for project in range(PROJECTS)]
        for day in range(_DAYS):
            made = Usages.of_day(day, usages // _DAYS)
            _fill(ledger, made, numbers)
            raw.executemany(f"INSERT INTO usages VALUES ({', '.join('?' * len(RAW_COLUMNS))})", made.raw())  # noqa: S608 - signs
            ledger.commit()
        raw.execute("CREATE INDEX usages_by_time ON usages (at)")
        raw.commit()
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


@dataclass(frozen=True, slots=True)
class Usages:
    """One day's, in columns; `sessions` says whose each is, `labels` what a session is about."""

    at: Numbers
    sessions: Numbers
    sums: Numbers
    """Requests, errors, unpriced, input and output tokens, cost, microseconds: see `rollups.SUMS`."""
    labels: Sequence[tuple[str | None, ...]]
    projects: Numbers

    @classmethod
    def of_day(cls, day: int, count: int) -> "Usages":
        """So many usages at random moments of a day."""
        random = np.random.default_rng(day)
        among = max(1, count // A_SESSION)
        projects = random.integers(0, PROJECTS, among)
        labels = [_label(day, number, int(project), random) for number, project in enumerate(projects)]
        sessions = random.integers(0, among, count)
        tokens = [np.interp(random.random(count), _SHARES, of).astype(np.int64) for of in (_CONTEXT, _GENERATED)]
        sums = np.zeros((count, 7), np.int64)
        sums[:, 0], sums[:, 1] = 1, random.random(count) < 0.02
        sums[:, 3], sums[:, 4] = tokens
        sums[:, 5], sums[:, 6] = tokens[0] * 2500 + tokens[1] * 10_000, tokens[1] * 20_000 + 300_000
        at = np.sort(random.integers(0, DAY, count)) + _FIRST + day * DAY
        return cls(at, sessions, sums, labels, projects[sessions])

    def texts(self) -> dict[str, Texts]:
        """What the usages were about, by dimension."""
        of_sessions = {
            name: Texts.of(column) for name, column in zip(DIMENSIONS, zip(*self.labels, strict=True), strict=True)
        }
        return {name: Texts(of.values, of.numbers[self.sessions]) for name, of in of_sessions.items()}

    def raw(self) -> Iterator[tuple[Any, ...]]:
        """As `RAW_COLUMNS`."""
        of = map(self.labels.__getitem__, self.sessions.tolist())
        for at, labels, (_, _, _, *counts) in zip(self.at.tolist(), of, self.sums.tolist(), strict=True):
            yield at, labels[0], labels[1], labels[2], labels[10], *counts


def _label(day: int, number: int, project: int, random: np.random.Generator) -> tuple[str | None, ...]:
    """Whose a session is and what it is about: see `rollups.DIMENSIONS`."""
    user, feature, assistant, model = (int(random.integers(0, most)) for most in (USERS, FEATURES, ASSISTANTS, MODELS))
    tenant = f"project-{project}"
    about = (f"feature-{feature}", f"assistant-{assistant}", f"session-{day}-{number}", None, f"key-{project}")
    return (tenant, f"user-{project}-{user}", *about, f"space-{project}", None, "openai", f"model-{model}", None)


def _fill(ledger: sqlite3.Connection, made: Usages, numbers: Sequence[Sequence[int]]) -> None:
    """What a day's usages add to hours, days and minutes. Each of these rows is of one day, so it is new."""
    signs = ", ".join("?" * len(COLUMNS))
    for table, rows in zip(("hours", "days"), rollups_of(made.at, made.texts(), made.sums), strict=True):
        ledger.executemany(f"INSERT INTO {table} ({', '.join(COLUMNS)}) VALUES ({signs})", rows)  # noqa: S608 - constants
    for level in range(len(numbers[0])):
        account = np.array([path[level] for path in numbers])[made.projects]
        ledger.executemany("INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?)", _minutes(account, made))


def _minutes(account: Numbers, made: Usages) -> list[list[int]]:
    """Sums by account and minute: account, minute, amount, requests, tokens, cost, unpriced."""
    minute = made.at // _MINUTE
    order = np.lexsort((minute, account))
    account, minute, sums = account[order], minute[order], made.sums[order]
    starts = np.flatnonzero(np.diff(account, prepend=-1) | np.diff(minute, prepend=-1))
    added = np.add.reduceat(sums, starts, axis=0)
    columns = (
        account[starts],
        minute[starts],
        added[:, 5],
        added[:, 0],
        added[:, 3] + added[:, 4],
        added[:, 5],
        added[:, 2],
    )
    return np.stack(columns, axis=1).tolist()  # type: ignore[no-any-return]


UNTIL = BEGIN + timedelta(days=_DAYS)
"""Where the plain table ends; what the ledger booked itself lies behind."""
