"""Which models an account used without a price (M6): exact, from what is booked, a part of the account at a time."""

from typing import Any

import numpy as np

from tollkeeper.unpriced import UnpricedModel
from tollkeeper.views import UnpricedPart
from tollkeeper_ledger.packed import charges_in
from tollkeeper_ledger.usagerows import PLACES
from tollkeeper_ledger.usages import ALL, Asking, Part, Parts

_LAST = "SELECT seq, packed FROM charges WHERE account = ? ORDER BY seq DESC LIMIT 1"
_ANY = "SELECT 1 FROM minutes WHERE account = ? AND unpriced > 0 LIMIT 1"


def part_of(snapshot: Asking, account: int, *, after: int, most: int) -> UnpricedPart:
    """The models of one part of an account's usages, by its row number; see `LedgerReader.unpriced`."""
    last = _last_place(snapshot, account)
    if snapshot.row(_ANY, (account,)) is None:
        return UnpricedPart([], last, is_last=True)
    found: dict[tuple[int, int], list[int]] = {}
    until, left = last, most
    for part in Parts(snapshot, account, (after // PLACES, ALL[1]), with_usages=True):
        asked = part.where(part.places > after).where(slice(left))
        _add(found, asked)
        left -= len(asked.places)
        if not left:
            until = int(asked.places[-1])
            break
    models = [UnpricedModel(_word(snapshot, of[0]), _word(snapshot, of[1]), *sums) for of, sums in found.items()]
    return UnpricedPart(models, until, is_last=until == last)


def _last_place(snapshot: Asking, account: int) -> int:
    row = snapshot.row(_LAST, (account,))
    return int(row[0]) * PLACES + int(charges_in([row[1]])["number"][-1]) if row else 0


def _add(found: dict[tuple[int, int], list[int]], part: Part) -> None:
    """Count a part's unpriced usages by provider and model: usages, tokens, and the first one's place."""
    assert part.usages is not None  # noqa: S101 - they were asked for
    unpriced = np.flatnonzero(part.usages["unpriced"])
    usages: Any = part.usages[unpriced]
    columns = (usages[name].tolist() for name in ("provider", "model", "tokens"))
    for place, provider, model, tokens in zip(part.places[unpriced].tolist(), *columns, strict=True):
        sums = found.setdefault((provider, model), [0, 0, place])
        sums[0] += 1
        sums[1] += tokens


def _word(snapshot: Asking, code: int) -> str:
    return str(snapshot.row("SELECT word FROM words WHERE code = ?", (code,))[0])
