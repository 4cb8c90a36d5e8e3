"""Gathering: everything that fills the feed.

- Kopf watches our kinds and namespaces.
- An informer of the API server's edge watches the Secrets that hold API keys: Kopf watches either all namespaces or
  none for every kind alike, and nobody should have to let us read the Secrets of all namespaces.
- Listings replace what is known of a kind: at the start, whenever Kopf begins a watch anew (it does not tell what was
  deleted meanwhile), and from time to time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import kopf
import structlog

from tollkeeper.keys import KEY_LABEL
from tollkeeper_kube import Change as Changed
from tollkeeper_kube import Informer, Kind, Kube, KubeError
from tollkeeper_kube.connection import is_loopback
from tollkeeper_kube.kinds import NAMESPACE, OUR_KINDS, SECRET
from tollkeeper_operator.feed import Feed, Raw
from tollkeeper_operator.kopf_watch import EventType, KopfWatch
from tollkeeper_operator.settings import OperatorSettings

WATCHED: tuple[Kind, ...] = (*OUR_KINDS, NAMESPACE)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0

_log = structlog.get_logger("tollkeeper.operator.watch")


@dataclass(slots=True)
class Watches:
    """Keeps a feed current while `run` runs. `fault` says why it is not, `listed` that everything was read once.

    `recovered` is called when the cluster can be read again.
    """

    kube: Kube
    feed: Feed
    settings: OperatorSettings
    recovered: Callable[[], None]
    fault: str | None = None
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    _to_list: set[Kind] = field(default_factory=lambda: set(WATCHED))
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _kopf: KopfWatch = field(init=False)
    _secrets: Informer = field(init=False)

    def __post_init__(self) -> None:
        self._kopf = KopfWatch(WATCHED, _login(self.kube), self._heard)
        self._secrets = Informer(
            self.kube, SECRET, self.settings.system_namespace, KEY_LABEL, changed=self._secret_changed
        )

    @property
    def restarts(self) -> int:
        """How often Kopf was started again."""
        return self._kopf.restarts

    async def run(self, stop: asyncio.Event) -> None:
        """Gather until `stop`."""
        # The first listing comes first: it says in one line what is wrong where the API server cannot be used.
        await self._list_until_done(stop)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._kopf.run(stop), name="kopf watch")
            listing = tasks.create_task(self._keep_listing(stop), name="listings")
            await stop.wait()
            listing.cancel()
        await self._secrets.stop()

    def _heard(self, kind: str, event: EventType, raw: Raw) -> None:
        if event is None:
            self._to_list.update(one for one in WATCHED if one.name == kind)
            self._wake.set()
        self.feed.note(kind, raw, deleted=event == "DELETED")

    def _secret_changed(self, change: Changed) -> None:
        if change.new is not None:
            self.feed.note(SECRET.name, {"kind": SECRET.name, **change.new})
        elif change.old is not None:
            self.feed.drop(SECRET.name, change.old)

    async def _keep_listing(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with asyncio.timeout(self.settings.relist):
                    await self._wake.wait()
            except TimeoutError:
                self._to_list.update(WATCHED)
            await self._list_until_done(stop)

    async def _list_until_done(self, stop: asyncio.Event) -> None:
        """List every kind that asks for it; where that fails, try again after pauses that grow to a bound."""
        pause = FIRST_PAUSE_SECONDS
        while not stop.is_set():
            self._wake.clear()
            try:
                await self._list()
            except KubeError as fault:
                if self.fault != str(fault):
                    _log.warning("the cluster cannot be read; trying again", error=str(fault))
                self.fault = str(fault)
                await _first(stop.wait(), pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            if self.fault is not None:
                _log.info("the cluster can be read again")
                self.recovered()
            self.fault = None
            self.listed.set()
            return

    async def _list(self) -> None:
        for kind in sorted(self._to_list, key=lambda one: one.name):
            listing = await self.kube.snapshot(kind)
            self.feed.replace(kind.name, listing.items, int(listing.resource_version or 0))
            self._to_list.discard(kind)
        if not self._secrets.synced:
            await self._secrets.start()


def _login(kube: Kube) -> Callable[[], Awaitable[kopf.ConnectionInfo]]:
    """Kopf's way in: the same server, as the same user, by the same files."""

    async def login() -> kopf.ConnectionInfo:
        with_us = await kube.credentials()
        return kopf.ConnectionInfo(
            server=with_us.server,
            insecure=not with_us.verify,
            ca_path=with_us.ca_file,
            certificate_path=with_us.certificate_file,
            private_key_path=with_us.key_file,
            token=with_us.token,
            trust_env=not is_loopback(with_us.server),
        )

    return login


async def _first(waited: Awaitable[object], seconds: float) -> None:
    try:
        await asyncio.wait_for(waited, seconds)
    except TimeoutError:
        return
