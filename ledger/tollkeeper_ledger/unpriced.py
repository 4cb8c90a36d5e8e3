"""Which models an account used without a price (M6): exact, from what is booked, a part of the account at a time."""

from tollkeeper.unpriced import UnpricedModel
from tollkeeper.views import UnpricedPart
from tollkeeper_ledger.usages import Asking

_LAST = "SELECT max(place) FROM charges WHERE account = ?"
_NTH = "SELECT place FROM charges WHERE account = ? AND place > ? ORDER BY place LIMIT 1 OFFSET ?"
_ANY = "SELECT 1 FROM minutes WHERE account = ? AND unpriced > 0 LIMIT 1"
_MODELS = """
SELECT r.provider, r.model, count(*), sum(r.tokens), min(c.place)
FROM charges c JOIN requests r ON r.place = c.place
WHERE c.account = ? AND c.place > ? AND c.place <= ? AND r.cost IS NULL
GROUP BY r.provider, r.model ORDER BY min(c.place)
"""


def part_of(snapshot: Asking, account: int, *, after: int, most: int) -> UnpricedPart:
    """The models of one part of an account's usages, by its row number; see `LedgerReader.unpriced`."""
    last = snapshot.row(_LAST, (account,))[0] or 0
    nth = snapshot.row(_NTH, (account, after, most - 1))
    until = nth[0] if nth else last
    if until < last and snapshot.row(_ANY, (account,)) is None:
        return UnpricedPart((), last, is_last=True)
    rows = snapshot.rows(_MODELS, (account, after, until))
    return UnpricedPart([UnpricedModel(*row[:2], *map(int, row[2:])) for row in rows], until, is_last=until == last)
