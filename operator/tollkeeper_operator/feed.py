"""What the API server says, as last heard: one level-triggered cache of raw objects, fed by watches and by listings.

Watches tell of changes, listings of what is there: a watch that lost its place never announces what was deleted
meanwhile, so a listing replaces everything of its kind. Both may arrive in any order; the resource versions decide,
which the API server promises to be comparable integers within a kind.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tollkeeper.problems import ObjectRef

Raw = Mapping[str, Any]
"""An object as the API server wrote it; never changed here."""


class Change(Enum):
    """What a new version of an object means for those who watch."""

    NOTHING = "nothing"
    STATUS = "status"
    POLICY = "policy"


def ref_of(kind: str, raw: Raw) -> ObjectRef:
    """Which object a raw one is."""
    metadata = raw["metadata"]
    return ObjectRef(kind, metadata.get("namespace") or "", metadata["name"])


@dataclass(slots=True)
class Feed:
    """The cache. `tell` is called with each key that changed in a way that matters, and how."""

    tell: Callable[[ObjectRef, Change], None]
    _objects: dict[ObjectRef, Raw] = field(default_factory=dict)
    _listed: dict[str, int] = field(default_factory=dict)
    _gone: dict[ObjectRef, int] = field(default_factory=dict)
    """Versions at which objects were deleted since the last listing: what is heard late must not bring them back."""

    def get(self, key: ObjectRef) -> Raw | None:
        """An object, if it is there."""
        return self._objects.get(key)

    def of_kind(self, kind: str) -> tuple[Raw, ...]:
        """All objects of a kind, by namespace and name."""
        return tuple(self._objects[key] for key in sorted(key for key in self._objects if key.kind == kind))

    def count(self, kind: str) -> int:
        """How many objects of a kind there are."""
        return sum(1 for key in self._objects if key.kind == kind)

    def note(self, kind: str, raw: Raw, *, deleted: bool = False) -> None:
        """Take one version of an object; one that is older than what is known is left aside."""
        key = ref_of(kind, raw)
        heard = version(raw)
        if heard <= self._known_version(key):
            return
        if deleted:
            self._gone[key] = heard
            self._forget(key)
        else:
            self._keep(key, raw)

    def drop(self, kind: str, raw: Raw) -> None:
        """Forget an object that is gone, told by a watch that knows no version of its end."""
        self._forget(ref_of(kind, raw))

    def replace(self, kind: str, objects: Iterable[Raw], listed_at: int) -> None:
        """Take a listing: what is not in it and not newer than it is gone."""
        listed = {ref_of(kind, raw): raw for raw in objects}
        self._listed[kind] = max(listed_at, self._listed.get(kind, 0))
        self._gone = {key: at for key, at in self._gone.items() if key.kind != kind or at > listed_at}
        for key in [key for key in self._objects if key.kind == kind]:
            if key not in listed and version(self._objects[key]) <= listed_at:
                self._forget(key)
        for key, raw in listed.items():
            known = self._objects.get(key)
            if version(raw) > (version(known) if known is not None else self._gone.get(key, 0)):
                self._keep(key, raw)

    def _known_version(self, key: ObjectRef) -> int:
        known = self._objects.get(key)
        return version(known) if known is not None else self._gone.get(key, self._listed.get(key.kind, 0))

    def _keep(self, key: ObjectRef, raw: Raw) -> None:
        slim = without_managed_fields(raw)
        change = change_between(self._objects.get(key), slim)
        self._objects[key] = slim
        if change is not Change.NOTHING:
            self.tell(key, change)

    def _forget(self, key: ObjectRef) -> None:
        if self._objects.pop(key, None) is not None:
            self.tell(key, Change.POLICY)


def version(raw: Raw) -> int:
    """The resource version as a number; 0 where there is none."""
    text = str(raw["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdecimal() else 0


def without_managed_fields(raw: Raw) -> Raw:
    """The object without the record of who wrote which field: it is the largest part, and nobody here reads it."""
    metadata = {name: value for name, value in raw["metadata"].items() if name != "managedFields"}
    return {**raw, "metadata": metadata}


def change_between(before: Raw | None, after: Raw) -> Change:
    """Whether policy, or only the status, differs between two versions of an object."""
    if before is None or _meant(before) != _meant(after):
        return Change.POLICY
    return Change.STATUS if before.get("status") != after.get("status") else Change.NOTHING


_BOOKKEEPING = frozenset({"resourceVersion", "generation"})


def _meant(raw: Raw) -> Raw:
    """What people mean by an object: everything but its status and the API server's own bookkeeping."""
    metadata = {name: value for name, value in raw["metadata"].items() if name not in _BOOKKEEPING}
    return {**{name: value for name, value in raw.items() if name not in ("status", "metadata")}, "metadata": metadata}
