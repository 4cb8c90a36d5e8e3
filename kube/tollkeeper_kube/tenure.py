"""Whose books govern a cluster: a Lease that names one ledger, so that no second one is written for the same budgets.

Two ledgers would each grant leases up to every cap, and each would open the gates that the other closed. The Lease outlives
its holder on purpose: a cluster whose ledger is away keeps its balances there, and a new, empty ledger would forget them.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from tollkeeper_kube.errors import Conflict, KubeError
from tollkeeper_kube.install import ensure_system_namespace
from tollkeeper_kube.kinds import LEASE, PART_OF, SYSTEM_NAMESPACE, Object
from tollkeeper_kube.kube import Kube

NAME = "tollkeeper-ledger"
RENEW_SECONDS = 5.0
FRESH = timedelta(seconds=20)
"""A holder that renewed within this time is running."""

_ATTEMPTS = 3

_log = structlog.get_logger("tollkeeper.tenure")


class OtherLedger(KubeError):
    """This cluster's books are kept elsewhere."""


class Tenure:
    """The claim of one ledger on one cluster. `clock` gives the time, with its zone."""

    def __init__(self, kube: Kube, ledger: str, clock: Callable[[], datetime]) -> None:
        self._kube = kube
        self._ledger = ledger
        self._clock = clock

    async def claim(self) -> None:
        """Claim the cluster for this ledger. Raises `OtherLedger` when another one holds it, running or not."""
        await ensure_system_namespace(self._kube)
        for _ in range(_ATTEMPTS):
            try:
                return await self._take()
            except Conflict:
                # Somebody wrote between our reading and our writing: look again whose it is now.
                continue
        raise OtherLedger(f"Lease {SYSTEM_NAMESPACE}/{NAME} changes all the time: does another `tollkeeper up` start?")

    async def hold(self) -> None:
        """Renew the claim until cancelled. Raises `OtherLedger` once another ledger has taken the cluster."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._take()
            except OtherLedger:
                raise
            except KubeError as error:
                # Nobody else can take what cannot be written either; the claim stands until it is taken.
                _log.warning("the claim on the cluster could not be renewed", error=str(error))

    async def _take(self) -> None:
        held = await self._kube.find(LEASE, NAME, SYSTEM_NAMESPACE)
        if held is None:
            await self._kube.create(self._manifest(None))
            return
        holder = str(held.get("spec", {}).get("holderIdentity") or "")
        if holder and holder != self._ledger:
            raise OtherLedger(self._refusal(held, holder))
        await self._kube.replace(self._manifest(held["metadata"]["resourceVersion"]))

    def _refusal(self, held: Object, holder: str) -> str:
        renewed = str(held.get("spec", {}).get("renewTime") or "")
        if renewed and self._clock() - datetime.fromisoformat(renewed) <= FRESH:
            return f"another `tollkeeper up` runs for this cluster, on ledger {holder}: end it first, or name another cluster"
        return (
            f"this cluster's books are kept in ledger {holder}, last in use at {renewed or 'an unknown time'}, and this is "
            f"ledger {self._ledger}: start with that ledger's folder, or begin new books, in which nothing is spent, "
            f"after `kubectl delete lease {NAME} -n {SYSTEM_NAMESPACE}`"
        )

    def _manifest(self, version: str | None) -> Object:
        about: Object = {
            "name": NAME,
            "namespace": SYSTEM_NAMESPACE,
            "labels": PART_OF,
        }
        if version is not None:
            about["resourceVersion"] = version
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": about,
            "spec": {
                "holderIdentity": self._ledger,
                "leaseDurationSeconds": int(FRESH.total_seconds()),
                "renewTime": self._clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
