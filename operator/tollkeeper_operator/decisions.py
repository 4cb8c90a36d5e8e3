"""Deciding: from what the feed and the ledger say to the policy in force, the gates' verdicts, and what is to be written.

Nothing here talks to the API server, so a cluster that does not answer delays no verdict. A ledger that cannot be read
leaves the verdicts as they were: no gate opens because a balance is unknown (I5).
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from tollkeeper.accounts import Account, Phase
from tollkeeper.books import Books
from tollkeeper.errors import Unavailable
from tollkeeper.gates import GateVerdict, accounts_gating, verdict
from tollkeeper.limits import Limit, LimitRef
from tollkeeper.notices import thresholds_reached
from tollkeeper.policy import CurrentPolicy
from tollkeeper.prices import PriceList
from tollkeeper.problems import ObjectRef
from tollkeeper.resources import GATE_NAME, TokenGrant
from tollkeeper_kube.kinds import NAMESPACE, SECRET, WORKLOAD_GATE
from tollkeeper_operator.balances import Balances, Moved
from tollkeeper_operator.event_log import EventLog
from tollkeeper_operator.feed import Change, Feed
from tollkeeper_operator.gathered import POLICY_KINDS, Gathered, gather
from tollkeeper_operator.grant_desk import GrantDesk
from tollkeeper_operator.metrics import Metrics
from tollkeeper_operator.schedule import Schedule
from tollkeeper_operator.settings import OperatorSettings
from tollkeeper_operator.threshold_events import ThresholdEvents

_log = structlog.get_logger("tollkeeper.operator")


@dataclass(slots=True)
class Decisions:
    """What was decided last. `decide` is one pass; `heard` and `booked` say what changed since, and wake it."""

    settings: OperatorSettings
    clock: Callable[[], datetime]
    books: Books
    policy: CurrentPolicy
    feed: Feed
    balances: Balances
    grants: GrantDesk
    schedule: Schedule
    events: EventLog
    metrics: Metrics
    prices: PriceList
    oldest_unreported: Callable[[], datetime | None] = lambda: None
    """When the oldest request ended that a gateway of this process could not report yet."""
    thresholds: ThresholdEvents = field(default_factory=ThresholdEvents)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    gathered: Gathered | None = None
    verdicts: dict[str, GateVerdict] = field(default_factory=dict)
    fault: str | None = None
    _policy_is_old: bool = True
    _accounts_are_old: bool = True
    _changed: set[str] = field(default_factory=set)
    _edited: set[ObjectRef] = field(default_factory=set)
    _moved: list[Moved] = field(default_factory=list)
    _rolled: set[str] = field(default_factory=set)
    """Namespaces whose gates rest on limits with a new window."""
    _crossed: dict[str, set[int]] = field(default_factory=dict)
    _namespaces: dict[LimitRef, frozenset[str]] = field(default_factory=dict)
    _reread_at: float = 0.0
    _ticked_at: float = 0.0

    @property
    def is_decided(self) -> bool:
        """Whether everything that was heard is decided on."""
        return self.gathered is not None and not self._policy_is_old and not self._accounts_are_old

    def heard(self, ref: ObjectRef, change: Change) -> None:
        """An object changed: policy is compiled anew, or a status that differs is looked at again."""
        if ref.kind == WORKLOAD_GATE.name:
            self.schedule.soon(ref)
        elif change is Change.POLICY:
            self._policy_is_old = True
            self._edited.add(ref)
            self.wake.set()
        elif ref.kind in POLICY_KINDS:
            self.schedule.later(ref)

    def booked(self, ids: frozenset[str]) -> None:
        """The ledger changed accounts."""
        self._changed |= ids
        self.wake.set()

    async def decide(self) -> None:
        """One pass over everything that changed. What the ledger could not answer is asked again in the next."""
        now = self.clock()
        self._look_for_late_usage(now)
        if self._policy_is_old:
            self._compile()
        try:
            await self._read(now)
            await self._look_at_grants(now)
            await self._look_for_crossed(now)
        except Unavailable as fault:
            self._ledger_failed(str(fault))
            return
        if self.fault is not None:
            _log.info("the ledger can be read again")
            self.fault = None
            self._schedule_everything()
        self._judge(now)
        self._measure()

    def _look_for_late_usage(self, now: datetime) -> None:
        oldest = self.oldest_unreported()
        lacks_since = oldest if oldest and (now - oldest).total_seconds() > self.settings.late else None
        if lacks_since != self.balances.lacks_since:
            # All are told when it begins and when it ends; a later beginning alone can wait for their next writing.
            turned = lacks_since is None or self.balances.lacks_since is None
            self.balances.lacks_since = lacks_since
            if turned:
                self._schedule_everything()

    def _compile(self) -> None:
        self._policy_is_old = False
        before = self.gathered
        gathered = gather(
            self.feed, self.prices, self.policy.value.version + 1, keeps_bodies=self.settings.keeps_bodies
        )
        if replace(gathered.policy, version=self.policy.value.version) != self.policy.value:
            self.policy.publish(gathered.policy)
        self.gathered = gathered
        self._namespaces.clear()
        self._accounts_are_old = True
        self.grants.adopt({ref: one for ref, one in gathered.resources.items() if isinstance(one, TokenGrant)})
        self._log_keys(before, gathered)
        self._schedule_everything()

    def _log_keys(self, before: Gathered | None, after: Gathered) -> None:
        """Keys are no objects with a status: what is wrong with one is told in the log, once."""
        for ref, problems in after.problems.items():
            if ref.kind in (SECRET.name, "ApiKey") and (before is None or before.problems.get(ref) != problems):
                _log.warning("an API key is refused", key=ref.name, error="; ".join(one.says for one in problems))

    async def _read(self, now: datetime) -> None:
        """Bring the balances up to now: new limits, ended windows, changed accounts."""
        try:
            await self._bring_up(now)
        finally:
            # What moved before a reading failed is known, and would never be told again.
            self._take(self.balances.moved())

    async def _bring_up(self, now: datetime) -> None:
        time = asyncio.get_running_loop().time()
        if self._accounts_are_old:
            await self.balances.adopt(self.policy.value, now)
            self._schedule_everything()
            self._edited.clear()
        if time - self._ticked_at >= self.settings.tick:
            await self._roll(now)
            await self.balances.reopen(now)
            self._ticked_at = time
        if self._changed:
            await self._refresh_changed(now)
        if time - self._reread_at >= self.settings.reread:
            await self.balances.refresh(self.balances.shared_ids(), now)
            self.metrics.unbooked.set(sum(one.missing.requests for one in await self.balances.unbooked()))
            self._reread_at = time

    async def _roll(self, now: datetime) -> None:
        ended = self.balances.ended(now)
        await self.balances.roll(ended, now)
        for limit in ended:
            self._schedule_limit(limit)
            # A key that nobody used yet in the new window has no account that could move.
            self._rolled |= self._gated_by(limit) if limit.blocks_workloads else frozenset()

    async def _refresh_changed(self, now: datetime) -> None:
        # Taken before it is read: what changes again meanwhile stands in the next set, and is read again.
        changed, self._changed = self._changed, set()
        try:
            await self.balances.refresh(changed, now)
        except Unavailable:
            self._changed |= changed
            raise

    def _take(self, moved: Iterable[Moved]) -> None:
        """Accounts moved: their objects are to be written; they are judged and told of when all was read."""
        turned: dict[LimitRef, Limit] = {}
        for one in moved:
            self._moved.append(one)
            self._schedule_moved(one)
            if phase_changed(one):
                turned[one.limit.ref] = one.limit
        for limit in turned.values():
            self._schedule_limit(limit)

    async def _look_at_grants(self, now: datetime) -> None:
        for ref in self.grants.to_look_at(self.policy.value, now):
            if await self.grants.look(ref, self.policy.value, now):
                self.schedule.soon(ref)

    async def _look_for_crossed(self, now: datetime) -> None:
        try:
            await self._note_crossed()
        finally:
            # What the ledger knows as crossed is never crossed again.
            self._tell_crossed(now)

    async def _note_crossed(self) -> None:
        for one in self._moved:
            known = self._crossed.setdefault(one.after.id, set())
            for threshold in sorted(thresholds_reached(one.limit, one.after) - known):
                if await self.books.first_crossing(one.after.id, threshold):
                    self.thresholds.crossed(threshold, one.limit, one.after)
                    self.schedule.soon(owner_ref(one.limit))
                known.add(threshold)
            if not known:
                del self._crossed[one.after.id]
        if len(self._crossed) > 2 * self.balances.count():
            self._crossed = {id_: told for id_, told in self._crossed.items() if self.balances.account(id_)}

    def _tell_crossed(self, now: datetime) -> None:
        for ref, notice in self.thresholds.due(asyncio.get_running_loop().time(), self._accounts_beside):
            owner = self.feed.get(ObjectRef(ref.kind, ref.namespace, ref.name))
            if owner is None:
                self.thresholds.ended(notice, told=True)  # nobody is left who could be told
            else:
                self.events.tell(notice, owner, now, self.thresholds.ended)

    def _accounts_beside(self, limit: Limit, account: Account) -> Sequence[Account]:
        """The accounts of a limit in the same window, as far as it is the one of now."""
        counted = self.balances.counted(limit.ref)
        return [one for one in counted.accounts if one.window_start == account.window_start] if counted else ()

    def _judge(self, now: datetime) -> None:
        if self.gathered is None:
            return
        governed = self.gathered.governed
        # After a new policy every gate is judged; else those whose accounts moved, or began anew.
        asked = governed if self._accounts_are_old else (self._touched(self._moved) | self._rolled) & governed
        for namespace in asked:
            self._judge_one(namespace, now)
        for namespace in self.verdicts.keys() - governed:
            del self.verdicts[namespace]
        if self._accounts_are_old:
            for raw in self.feed.of_kind(WORKLOAD_GATE.name):
                self.schedule.soon(gate_ref(raw["metadata"]["namespace"]))
        self._accounts_are_old = False
        self._moved.clear()
        self._rolled.clear()

    def _measure(self) -> None:
        self.metrics.accounts.set(self.balances.count())
        for state, wanted in (("open", True), ("closed", False)):
            self.metrics.gates.labels(state).set(sum(one.open is wanted for one in self.verdicts.values()))

    def _judge_one(self, namespace: str, now: datetime) -> None:
        policy = self.policy.value
        ids = [bound.account.text for bound in accounts_gating(policy, namespace, now)]
        accounts = {id_: account for id_ in ids if (account := self.balances.account(id_)) is not None}
        before, after = self.verdicts.get(namespace), verdict(policy, namespace, accounts, now)
        self.verdicts[namespace] = after
        if before is None or before.open is not after.open:
            self.schedule.soon(gate_ref(namespace))
        elif (before.message, before.limits) != (after.message, after.limits):
            self.schedule.later(gate_ref(namespace))

    def _touched(self, moved: Sequence[Moved]) -> frozenset[str]:
        """The namespaces whose gates may say something else: by a phase that changed, or by amounts that they tell."""
        turned = {one.limit.ref for one in moved if phase_changed(one)}
        touched: set[str] = set()
        # Of a limit with a key for each user thousands may have moved; its gates are looked at once.
        for limit in {one.limit.ref: one.limit for one in moved if one.limit.blocks_workloads}.values():
            gated = self._gated_by(limit)
            touched |= gated if limit.ref in turned else {name for name in gated if self._tells_amounts(name)}
        return frozenset(touched)

    def _tells_amounts(self, namespace: str) -> bool:
        known = self.verdicts.get(namespace)
        return known is None or not known.open or bool(known.warnings)

    def _gated_by(self, limit: Limit) -> frozenset[str]:
        if limit.ref not in self._namespaces:
            nodes = self.gathered.bound_by(limit) if self.gathered else ()
            self._namespaces[limit.ref] = frozenset[str]().union(*(node.namespaces for node in nodes))
        return self._namespaces[limit.ref]

    def _schedule_moved(self, one: Moved) -> None:
        self.schedule.later(owner_ref(one.limit))
        for grant in self.grants.of_budget(one.limit.ref):
            self.schedule.later(grant)

    def _schedule_limit(self, limit: Limit) -> None:
        """Have everything written at once that a limit's phase says something about."""
        self.schedule.soon(owner_ref(limit))
        for node in self.gathered.bound_by(limit) if self.gathered else ():
            self.schedule.soon(ObjectRef("Tenant", "", node.name))

    def look_at_everything(self) -> None:
        """Have every status and gate compared and written at once: nothing may wait for a pause that has no reason."""
        self._schedule_everything()
        for namespace in self.verdicts:
            self.schedule.soon(gate_ref(namespace))

    def _schedule_everything(self) -> None:
        """Every status is compared anew; those whose objects somebody has just edited, and looks at, come first."""
        now = asyncio.get_running_loop().time()
        for kind in POLICY_KINDS:
            for raw in self.feed.of_kind(kind):
                metadata = raw["metadata"]
                ref = ObjectRef(kind, metadata.get("namespace") or "", metadata["name"])
                self.schedule.at(ref, now - (ref in self._edited))

    def _ledger_failed(self, fault: str) -> None:
        self.metrics.failures.labels("ledger").inc()
        if self.fault != fault:
            _log.warning("the ledger cannot be read or written; trying again", error=fault)
            self.fault = fault
            self._schedule_everything()


def gate_ref(namespace: str) -> ObjectRef:
    """The gate of a namespace."""
    return ObjectRef(WORKLOAD_GATE.name, namespace, GATE_NAME)


def owner_ref(limit: Limit) -> ObjectRef:
    """The object that states a limit."""
    return ObjectRef(limit.ref.kind, limit.ref.namespace, limit.ref.name)


def namespace_ref(name: str) -> ObjectRef:
    """A namespace."""
    return ObjectRef(NAMESPACE.name, "", name)


def phase_changed(moved: Moved) -> bool:
    """Whether an account's phase is another than before; a new account was Sufficient before anybody looked."""
    before = Phase.SUFFICIENT if moved.before is None else moved.before.phase(moved.limit)
    return before is not moved.after.phase(moved.limit)
