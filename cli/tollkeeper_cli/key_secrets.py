"""API keys as Secrets of `tollkeeper-system`: made, listed and revoked there (W1, W5)."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from tollkeeper.errors import InvalidValue
from tollkeeper.keys import KEY_FIELD, KEY_LABEL, ApiKey
from tollkeeper_kube import SYSTEM_NAMESPACE, Kube, NotFound, Object, connect
from tollkeeper_kube.kinds import SECRET, TENANT

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class KeySecrets:
    """The keys of the cluster that a context or a kubeconfig names. Methods raise `KubeError` where it does not answer."""

    context: str | None
    kubeconfig: Path | None

    def create(self, key: ApiKey) -> None:
        """Keep a new key. Raises `InvalidValue` where there is no such tenant, or no namespace for keys yet."""
        self._on_cluster(partial(_create, key=key))

    def all(self) -> tuple[list[ApiKey], list[str]]:
        """The keys by tenant, and what is wrong with Secrets that hold none."""
        return _sorted(self._on_cluster(_listed))

    def revoke(self, key_id: str) -> datetime | None:
        """Revoke a key, and return since when it is, where it was revoked before: that stands. Raises `InvalidValue`."""
        return self._on_cluster(partial(_revoke, key_id=key_id))

    def _on_cluster(self, work: Callable[[Kube], Awaitable[Result]]) -> Result:
        async def connected() -> Result:
            async with await connect(self.context, self.kubeconfig) as kube:
                return await work(kube)

        return asyncio.run(connected())


async def _create(kube: Kube, key: ApiKey) -> None:
    if await kube.find(TENANT, key.tenant) is None:
        raise InvalidValue(f"--tenant: there is no tenant {key.tenant!r}; `kubectl get tenants` lists them")
    try:
        await kube.create(_manifest(key))
    except NotFound as error:
        raise InvalidValue(f"{error}; `tollkeeper up` makes it at its start") from error


def _manifest(key: ApiKey) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "tollkeeper.dev/api-key",
        "metadata": {"name": _name(key.id), "namespace": SYSTEM_NAMESPACE, "labels": {KEY_LABEL: key.id}},
        "data": {KEY_FIELD: base64.b64encode(key.to_json().encode()).decode()},
    }


def _name(key_id: str) -> str:
    return f"key-{key_id}"


def _parse(secret: Object) -> ApiKey:
    """The key in a Secret. Raises `InvalidValue` that names the Secret of a damaged one."""
    try:
        return ApiKey.from_json(base64.b64decode((secret.get("data") or {}).get(KEY_FIELD, "")))
    except ValueError as error:
        name = secret["metadata"]["name"]
        raise InvalidValue(
            f"Secret {SYSTEM_NAMESPACE}/{name} holds no readable key, and none is in force by it: "
            f"`kubectl delete secret {name} -n {SYSTEM_NAMESPACE}`"
        ) from error


async def _listed(kube: Kube) -> Iterable[Object]:
    return await kube.list(SECRET, namespace=SYSTEM_NAMESPACE, label_selector=KEY_LABEL)


def _sorted(secrets: Iterable[Object]) -> tuple[list[ApiKey], list[str]]:
    keys: list[ApiKey] = []
    damaged: list[str] = []
    for secret in secrets:
        try:
            keys.append(_parse(secret))
        except InvalidValue as error:
            damaged.append(str(error))
    return sorted(keys, key=lambda key: (key.tenant, key.id)), damaged


async def _revoke(kube: Kube, key_id: str) -> datetime | None:
    try:
        key = _parse(await kube.get(SECRET, _name(key_id), SYSTEM_NAMESPACE))
    except NotFound as error:
        raise InvalidValue(f"there is no key {key_id!r}; `tollkeeper keys list` shows their ids") from error
    if key.revoked is None:
        await kube.apply(_manifest(replace(key, revoked=datetime.now(UTC))))
    return key.revoked
