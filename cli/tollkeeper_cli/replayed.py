"""What `tollkeeper what-if` does: it reads the past, replays it, and says what would have been."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from tollkeeper.amounts import format_money
from tollkeeper.policy import PolicySet
from tollkeeper.prices import PriceList
from tollkeeper.whatif import Tally, WhatIf, breakdowns, what_if
from tollkeeper.windows import format_time
from tollkeeper_cli.ledgers import exported, storage_of
from tollkeeper_cli.policy_files import policies_in, prices_in
from tollkeeper_cli.tables import columns
from tollkeeper_ledger.errors import ChainBroken
from tollkeeper_ledger.history import read_history


@dataclass(frozen=True, slots=True)
class Rules:
    """What the past is replayed under. Without `prices`, costs stay as they were booked."""

    policy: PolicySet
    prices: PriceList | None


def rules_in(policies: Path | None, prices: Path | None) -> Rules:
    """The rules of a folder of policies and a file with a PriceBook. Raises `InvalidValue`."""
    policy = policies_in(policies).policy if policies else PolicySet(0, {}, (), PriceList())
    return Rules(policy, prices_in(prices) if prices else None)


@contextlib.contextmanager
def past(export: Path | None, config: Path | None, data_dir: Path | None) -> Iterator[Iterable[bytes]]:
    """The lines of an export, or of what the ledger would export now. Raises `InvalidValue` where there is none.

    A `ChainBroken` out of the block gets the name of the export in front.
    """
    if export is None:
        with exported(storage_of(config, data_dir).ledger, ", or an export with --ledger") as lines:
            yield lines
        return
    with export.open("rb") as file:
        try:
            yield file
        except ChainBroken as error:
            raise ChainBroken(f"{export}: {error}") from error


def answered(lines: Iterable[bytes], rules: Rules, since: datetime | None, until: datetime | None) -> WhatIf:
    """The replay of an export under other rules. Raises `ChainBroken`."""
    return what_if(read_history(lines), rules.policy, rules.prices, since=since, until=until)


def table(answer: WhatIf) -> Iterator[str]:
    """The answer for a person."""
    header = ("", "REQUESTS", "REFUSED", "FIRST REFUSED", "BOOKED USD", "COST USD", "REFUSED USD")
    rows = [header, _row("all", answer.total)]
    for group, tallies in breakdowns(answer):
        rows += [_row(f"{group} {name}", tally) for name, tally in sorted(tallies.items())]
    yield from columns(rows)


def _row(name: str, tally: Tally) -> tuple[str, ...]:
    first = tally.first_refused.strftime("%Y-%m-%d %H:%M:%S") if tally.first_refused else "-"
    money = (format_money(amount) for amount in (tally.booked, tally.cost, tally.refused_cost))
    return (name, str(tally.requests), str(tally.refused), first, *money)


def as_json(answer: WhatIf) -> bytes:
    """The answer for a program, which names the first refused requests as well."""
    refusals = [asdict(one) | {"at": format_time(one.at), "cost": format_money(one.cost)} for one in answer.refusals]
    groups = {
        f"by_{group}": {name: _tally(tally) for name, tally in sorted(tallies.items())}
        for group, tallies in breakdowns(answer)
    }
    told = {"unpriced": answer.unpriced, "unknown_tenants": answer.strangers}
    total = {"total": _tally(answer.total)}
    return orjson.dumps({**total, **groups, "first_refusals": refusals, **told}, option=orjson.OPT_INDENT_2)


def _tally(tally: Tally) -> dict[str, Any]:
    first: datetime | None = tally.first_refused
    return {
        "requests": tally.requests,
        "refused": tally.refused,
        "first_refused": format_time(first) if first else None,
        "unpriced": tally.unpriced,
        "booked_usd": format_money(tally.booked),
        "cost_usd": format_money(tally.cost),
        "refused_usd": format_money(tally.refused_cost),
    }


def besides(answer: WhatIf) -> Iterator[str]:
    """What was counted otherwise than a person may think: without a cost, or without a limit."""
    for model, requests in sorted(answer.unpriced.items()):
        yield f"no price is known for {model}: {requests} requests are counted without a cost"
    for tenant, requests in sorted(answer.strangers.items()):
        yield f"no tenant {tenant} is among the policies: nothing limits its {requests} requests"
