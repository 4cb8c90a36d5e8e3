"""A gateway's life at the ledger and its spool, and what the next one does for it: the steps of both, and nothing else."""

from datetime import datetime
from pathlib import Path

from tests.faults.points import Points, lines_in
from tests.ledger.builders import NOW, account_of, budget, policy, record
from tollkeeper.counters import SETTLED, Counters
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.policy import CurrentPolicy
from tollkeeper.usage import Charge
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_sidecar.recovery import recover
from tollkeeper_sidecar.spool import Spool
from tollkeeper_webhook.authority import LedgerAuthority

LIMIT = budget(allocation=1000, minimum=0)
ACCOUNT = account_of(LIMIT)
HOLDER, BOOT = "gateway-1", "boot-1"
HELD, USED = 50, 40
REQUESTS = 5
SEGMENT_BYTES = 1500
"""So small that files of the spool are cut, and deleted, while the gateway lives."""


def clock() -> datetime:
    """The time of the story."""
    return NOW


def authority_of(ledger: LedgerAt) -> LedgerAuthority:
    """The authority over a ledger."""
    return LedgerAuthority(ledger, CurrentPolicy(policy(LIMIT)), clock)


async def live(points: Points, folder: Path, ledger: LedgerAt) -> None:
    """Requests one after the other, each in the order that I2 asks for; every second time the usage is reported."""
    async with authority_of(ledger) as authority:
        spool = Spool(folder / "spool", HOLDER, BOOT, largest=2**20, segment=SEGMENT_BYTES)
        await authority.lease(LeaseRequest(HOLDER, 1, (Want(ACCOUNT, 300, 300),)))
        points.passed("leased")
        settled = []
        for number in range(REQUESTS):
            request = f"r{number}"
            spool.hold(request, {ACCOUNT: HELD})
            points.write("served", str(USED))
            points.passed("the provider has served")
            settled.append(record(HOLDER, Charge(ACCOUNT, USED, HELD), request=request))
            spool.settle(settled[-1])
            points.passed("settled, not synced")
            await spool.durable()
            points.passed("synced, not answered")
            points.write("answers", request)
            if number % 2:
                points.passed("not reported")
                await authority.report(settled, Counters(HOLDER, {SETTLED[0]: number + 1}))
                points.passed("reported, not acknowledged")
                spool.booked([one.id for one in settled])
                settled.clear()
        spool.hold("nothing", {ACCOUNT: HELD})
        spool.void("nothing")
        await authority.report(settled)
        spool.booked([one.id for one in settled])
        await authority.close(HOLDER, {})
        points.passed("closed, its spool is there")
        await spool.close(finished=True)


async def recovered(points: Points, folder: Path, ledger: LedgerAt) -> None:
    """The start after a crash: what an earlier gateway left is reported, and its leases end."""
    async with authority_of(ledger) as authority:
        await recover(folder / "spool", authority, BOOT)


def served(folder: Path) -> int:
    """What the provider's own book says."""
    return sum(map(int, lines_in(folder, "served")))
