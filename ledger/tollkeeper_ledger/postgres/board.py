"""The board of authorities that share a database: what one asks of holders that talk to another (see `tollkeeper.recalls`).

A table of few rows: each stands for a recall time by the server's clock, goes when it is answered, and is swept away by
whoever puts up the next ones. Rows that several writers meet are locked in the order of their keys, as everywhere here.
"""

from collections.abc import Collection, Mapping

from tollkeeper.leases import RECALL_SECONDS
from tollkeeper.recalls import Ask, Posting
from tollkeeper_ledger.postgres.arrays import integers, texts
from tollkeeper_ledger.postgres.session import Session

_NOW = "(extract(epoch FROM now()) * 1000000)::bigint"
_LOOK = f"SELECT account, holder, until FROM recalls WHERE until > {_NOW}"  # noqa: S608 - constants
_POST = (
    f"INSERT INTO recalls SELECT account, holder, {_NOW} + %s "  # noqa: S608 - constants
    "FROM unnest(%s::text[], %s::text[]) AS u (account, holder) ORDER BY account, holder "
    "ON CONFLICT (account, holder) DO UPDATE SET until = excluded.until"
)
_TAKE_OFF = (
    "DELETE FROM recalls r USING (SELECT account, holder FROM recalls WHERE {over} ORDER BY account, holder FOR UPDATE) o "
    "WHERE r.account = o.account AND r.holder = o.holder"
)
_SWEEP = _TAKE_OFF.format(over=f"until <= {_NOW}")
_ANSWER = _TAKE_OFF.format(
    over="EXISTS (SELECT 1 FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS u (account, holder, until) "
    "WHERE u.account = recalls.account AND u.holder = recalls.holder AND u.until >= recalls.until)"
)


class PostgresBoard:
    """See `RecallBoard`. Connects when it is first used. Not safe for use by several threads."""

    def __init__(self, dsn: str) -> None:
        self._session = Session(dsn)

    def exchange(self, posting: Posting) -> Mapping[Ask, int]:
        """See `RecallBoard`. A look without anything to say is one question of a table that is all but empty."""
        if posting.answers:
            columns = _columns(posting.answers)
            self._session.change(_ANSWER, (*columns, integers(posting.answers.values())))
        if posting.asks:
            self._session.change(_SWEEP)
            self._session.change(_POST, (int(RECALL_SECONDS * 1_000_000), *_columns(posting.asks)))
        return {Ask(account, holder): int(until) for account, holder, until in self._session.ask(_LOOK)}

    def close(self) -> None:
        """Close the connection."""
        self._session.drop()


def _columns(asks: Collection[Ask]) -> tuple[str, str]:
    return texts([ask.account for ask in asks]), texts([ask.holder for ask in asks])
