"""Which models an account used without a price (M6): exact, from what is booked, a part of the account at a time.

A request's cost stands in its transaction alone. The sums by the minute say in which minutes usage without a price lies,
so that the transactions of all other minutes are never read.
"""

from dataclasses import dataclass

from tollkeeper.unpriced import UnpricedModel
from tollkeeper.views import UnpricedPart
from tollkeeper_ledger.usages import Asking

_LAST = "SELECT max(seq) FROM charges WHERE account = ?"
_NTH = "SELECT seq FROM charges WHERE account = ? AND seq > ? ORDER BY seq LIMIT 1 OFFSET ?"
_ANY = "SELECT 1 FROM minutes WHERE account = ? AND unpriced > 0 LIMIT 1"

# CROSS JOIN keeps this order on SQLite: a transaction is read last, and only if its minute has usage without a price.
_MODELS = """
SELECT provider, model, count(*), coalesce(sum(tokens), 0), min(seq) FROM (
  SELECT r.provider, r.model, c.seq, ({tokens}) AS tokens
  FROM charges c
  CROSS JOIN requests r
  CROSS JOIN minutes m
  CROSS JOIN transactions t
  WHERE c.account = ? AND c.seq > ? AND c.seq <= ?
    AND r.seq = c.seq AND m.account = c.account AND m.minute = r.finished / 60000000 AND m.unpriced > 0
    AND {same_transaction} AND {cost} IS NULL
) AS found GROUP BY provider, model ORDER BY min(seq)
"""


@dataclass(frozen=True, slots=True)
class Json:
    """How a storage reads the text of a transaction `t`: its cost, and the sum of its buckets."""

    cost: str
    tokens: str


ON_SQLITE = Json(
    "json_extract(CAST(t.body AS TEXT), '$.usage.cost')",
    "SELECT sum(value) FROM json_each(CAST(t.body AS TEXT), '$.usage.buckets')",
)
ON_POSTGRES = Json(
    "convert_from(t.body, 'UTF8')::jsonb #>> '{usage,cost}'",
    "SELECT sum(value::bigint) FROM jsonb_each_text(convert_from(t.body, 'UTF8')::jsonb #> '{usage,buckets}')",
)


def part_of(
    snapshot: Asking, account: int, *, after: int, most: int, json: Json, same_transaction: str
) -> UnpricedPart:
    """The models of one part of an account's usages, by its row number; see `LedgerReader.unpriced`."""
    last = snapshot.row(_LAST, (account,))[0] or 0
    nth = snapshot.row(_NTH, (account, after, most - 1))
    until = nth[0] if nth else last
    if until < last and snapshot.row(_ANY, (account,)) is None:
        return UnpricedPart((), last, is_last=True)
    models = _MODELS.format(tokens=json.tokens, cost=json.cost, same_transaction=same_transaction)
    rows = snapshot.rows(models, (account, after, until))
    return UnpricedPart([UnpricedModel(*row[:2], *map(int, row[2:])) for row in rows], until, is_last=until == last)
