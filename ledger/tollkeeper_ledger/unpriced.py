"""Which models an account used without a price (M6): exact, from what is booked, a part of the account at a time.

A request's cost stands in its transaction alone. The sums by the minute say in which minutes usage without a price lies,
so that the transactions of all other minutes are never read.
"""

import sqlite3

from tollkeeper.unpriced import UnpricedModel
from tollkeeper.views import UnpricedPart

_LAST = "SELECT max(seq) FROM charges WHERE account = ?"
_NTH = "SELECT seq FROM charges WHERE account = ? AND seq > ? ORDER BY seq LIMIT 1 OFFSET ?"
_ANY = "SELECT 1 FROM minutes WHERE account = ? AND unpriced > 0 LIMIT 1"

# CROSS JOIN keeps this order: a transaction is read last, and only if its minute has usage without a price.
_MODELS = """
SELECT provider, model, count(*), coalesce(sum(tokens), 0), min(seq) FROM (
  SELECT r.provider, r.model, c.seq,
    (SELECT sum(value) FROM json_each(CAST(t.body AS TEXT), '$.usage.buckets')) AS tokens
  FROM charges c
  CROSS JOIN requests r ON r.seq = c.seq
  CROSS JOIN minutes m ON m.account = c.account AND m.minute = r.finished / 60000000 AND m.unpriced > 0
  CROSS JOIN transactions t ON t.seq = c.seq
  WHERE c.account = ? AND c.seq > ? AND c.seq <= ?
    AND json_extract(CAST(t.body AS TEXT), '$.usage.cost') IS NULL
) GROUP BY provider, model ORDER BY min(seq)
"""


def part_of(connection: sqlite3.Connection, account: int, *, after: int, most: int) -> UnpricedPart:
    """The models of one part of an account's usages, by its row number; see `LedgerReader.unpriced`."""
    last = connection.execute(_LAST, (account,)).fetchone()[0] or 0
    nth = connection.execute(_NTH, (account, after, most - 1)).fetchone()
    until = nth[0] if nth else last
    if until < last and connection.execute(_ANY, (account,)).fetchone() is None:
        return UnpricedPart((), last, is_last=True)
    rows = connection.execute(_MODELS, (account, after, until))
    return UnpricedPart([UnpricedModel(*row) for row in rows], until, is_last=until == last)
