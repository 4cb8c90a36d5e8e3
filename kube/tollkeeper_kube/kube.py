"""The API server as the rooms see it: verbs on plain objects, each bounded in time, each with typed errors."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp

from tollkeeper_kube.connection import Credentials, configure, credentials_of, open_session, server_options
from tollkeeper_kube.errors import Expired, NotFound, edge, refusal
from tollkeeper_kube.kinds import FIELD_MANAGER, Kind, Object, kind_of
from tollkeeper_kube.wire import text_of

CALL_SECONDS = 10.0
LIST_SECONDS = 30.0
PAGE = 500
WATCH_SECONDS = 50
"""How long one watch connection lasts. A silent one is given up a little later, so a dead connection is noticed."""

_GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a list at one moment of the server, from which a watch can go on."""

    items: tuple[Object, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK; a bookmark's object carries a resource version alone."""

    type: str
    object: Object


async def connect(context: str | None = None, kubeconfig: Path | None = None) -> "Kube":
    """Connect and make sure that somebody answers. Raises `NoCluster`, `ApiUnreachable`, `Forbidden`."""
    configuration = await configure(context, kubeconfig)
    async with edge(configuration.host, "connecting"):
        kube = Kube(configuration, open_session(configuration))
    try:
        kube.version = str((await kube.call("GET", "/version", what="asking its version")).get("gitVersion", ""))
    except BaseException:
        await kube.close()
        raise
    return kube


class Kube:
    """A connection to one API server. Objects are plain JSON values; every method raises only `KubeError`s.

    Any method may raise `ApiUnreachable`, `Forbidden`, `Rejected`, `MissingKind`; what else is said at each.
    """

    def __init__(self, configuration: Any, session: aiohttp.ClientSession) -> None:
        self._configuration = configuration
        self._session = session
        self.version = ""

    @property
    def host(self) -> str:
        """The server's address."""
        return str(self._configuration.host)

    async def credentials(self) -> Credentials:
        """What another client needs to reach this server as the same user."""
        return await credentials_of(self._configuration)

    async def close(self) -> None:
        """Close the connection; using it afterwards is an error."""
        await self._session.close()

    async def __aenter__(self) -> "Kube":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """One object. Raises `NotFound`."""
        return await self.call("GET", kind.path(namespace, name), what=_reading(kind, name, namespace), kind=kind)

    async def find(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        """One object, or `None` where it does not exist."""
        try:
            return await self.get(kind, name, namespace)
        except NotFound:
            return None

    async def list(
        self, kind: Kind, namespace: str | None = None, label_selector: str | None = None
    ) -> tuple[Object, ...]:
        """All objects of a kind, of one namespace or of all."""
        return (await self.snapshot(kind, namespace, label_selector)).items

    async def snapshot(self, kind: Kind, namespace: str | None = None, label_selector: str | None = None) -> Listing:
        """All objects of a kind, read in pages, with the resource version that they belong to."""
        try:
            return await self._pages(kind, namespace, label_selector, PAGE)
        except Expired:
            # The pages' snapshot was compacted away between two of them: once more, in one piece.
            return await self._pages(kind, namespace, label_selector, 0)

    async def _pages(self, kind: Kind, namespace: str | None, label_selector: str | None, limit: int) -> Listing:
        items: list[Object] = []
        query = _query(labelSelector=label_selector, limit=limit or None)
        while True:
            page = await self.call(
                "GET",
                kind.path(namespace),
                what=f"listing {kind.plural}",
                kind=kind,
                query=query,
                seconds=LIST_SECONDS,
            )
            items += [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in page.get("items") or ()]
            about = page.get("metadata") or {}
            if not about.get("continue"):
                return Listing(tuple(items), str(about.get("resourceVersion", "")))
            query = _query(labelSelector=label_selector, limit=limit, **{"continue": about["continue"]})

    async def create(self, manifest: Object) -> Object:
        """Create an object. Raises `AlreadyExists`."""
        kind, about = kind_of(manifest), manifest.get("metadata", {})
        name, namespace = str(about.get("name", about.get("generateName", ""))), about.get("namespace")
        return await self.call(
            "POST",
            kind.path(namespace),
            what=_doing("creating", kind, name, namespace),
            kind=kind,
            body=manifest,
            query=_query(fieldManager=FIELD_MANAGER),
        )

    async def replace(self, manifest: Object, subresource: str | None = None) -> Object:
        """Replace an object; with its `resourceVersion`, only if nobody changed it. Raises `Conflict`, `NotFound`."""
        kind, (name, namespace) = kind_of(manifest), _named(manifest)
        return await self.call(
            "PUT",
            kind.path(namespace, name, subresource),
            what=_doing("replacing", kind, name, namespace),
            kind=kind,
            body=manifest,
            query=_query(fieldManager=FIELD_MANAGER),
        )

    async def apply(self, manifest: Object, *, dry_run: bool = False) -> Object:
        """Server-side apply as field manager `tollkeeper`, by force: our fields become ours."""
        return await self._apply(manifest, None, dry_run)

    async def apply_status(self, manifest: Object) -> Object:
        """Server-side apply of `status` (the manifest carries identity and status alone). Raises `NotFound`."""
        return await self._apply(manifest, "status", dry_run=False)

    async def _apply(self, manifest: Object, subresource: str | None, dry_run: bool) -> Object:
        kind, (name, namespace) = kind_of(manifest), _named(manifest)
        return await self.call(
            "PATCH",
            kind.path(namespace, name, subresource),
            what=_doing("applying the status of" if subresource else "applying", kind, name, namespace),
            kind=kind,
            body=manifest,
            content_type="application/apply-patch+yaml",
            query=_query(fieldManager=FIELD_MANAGER, force="true", dryRun="All" if dry_run else None),
        )

    async def patch(
        self, kind: Kind, name: str, patch: Object, namespace: str | None = None, subresource: str | None = None
    ) -> Object:
        """Merge-patch an object. Raises `NotFound`, `Conflict`."""
        return await self.call(
            "PATCH",
            kind.path(namespace, name, subresource),
            what=_doing("patching", kind, name, namespace),
            kind=kind,
            body=patch,
            content_type="application/merge-patch+json",
            query=_query(fieldManager=FIELD_MANAGER),
        )

    async def delete(self, kind: Kind, name: str, namespace: str | None = None) -> None:
        """Delete an object. Raises `NotFound`."""
        await self.call("DELETE", kind.path(namespace, name), what=_doing("deleting", kind, name, namespace), kind=kind)

    async def whoami(self) -> str:
        """The user name by which the API server knows us."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        answer = await self.call("POST", path, what="asking who we are", body=review)
        return str(answer.get("status", {}).get("userInfo", {}).get("username", ""))

    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str | None = None,
        label_selector: str | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """What changed since `resource_version`; ends in order after `WATCH_SECONDS`. Raises `Expired`: list again."""
        what = f"watching {kind.plural}"
        query = _query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            timeoutSeconds=WATCH_SECONDS,
            labelSelector=label_selector,
        )
        timeout = aiohttp.ClientTimeout(sock_connect=CALL_SECONDS, sock_read=WATCH_SECONDS + _GRACE_SECONDS)
        async with edge(self.host, what):
            response = await self._send("GET", kind.path(namespace), query, timeout)
        async with response:
            if response.status >= 400:
                raise refusal(response.status, await response.read(), host=self.host, what=what, kind=kind)
            try:
                while True:
                    async with edge(self.host, what):
                        line = await response.content.readline()
                    if not line:
                        return
                    yield self._event(line, kind, what)
            finally:
                _hang_up(response)

    def _event(self, line: bytes, kind: Kind, what: str) -> WatchEvent:
        raw = json.loads(line)
        if raw["type"] == "ERROR":
            status = raw.get("object") or {}
            code, body = int(status.get("code", 500)), json.dumps(status).encode()
            raise refusal(code, body, host=self.host, what=what, kind=kind)
        return WatchEvent(raw["type"], raw["object"])

    async def call(
        self,
        method: str,
        path: str,
        *,
        what: str,
        kind: Kind | None = None,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        seconds: float = CALL_SECONDS,
    ) -> Object:
        """One request and its JSON answer, within `seconds`. `what` begins the message of an error."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with edge(self.host, what):
            response = await self._send(method, path, query, timeout, body, content_type)
            async with response:
                answer = await response.read()
        if response.status >= 400:
            raise refusal(response.status, answer, host=self.host, what=what, kind=kind)
        parsed: Object = json.loads(answer)
        return parsed

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the client library's own value, handed through
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        authorization = (await self._configuration.auth_settings()).get("BearerToken")
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": "tollkeeper"}
        if authorization is not None:
            headers[authorization["key"]] = authorization["value"]
        return await self._session.request(
            method,
            self.host + path + (f"?{urlencode(query)}" if query else ""),
            headers=headers,
            data=None if body is None else text_of(body),
            timeout=timeout,
            **server_options(self._configuration),
        )


def _hang_up(response: aiohttp.ClientResponse) -> None:
    """End the connection of an answer that was not read to its end, at once.

    Closed in order it would wait for the server's goodbye, and might outlive the event loop that must close it.
    """
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()


def _query(**values: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _named(manifest: Object) -> tuple[str, str | None]:
    about = manifest["metadata"]
    return about["name"], about.get("namespace")


def _doing(verb: str, kind: Kind, name: str, namespace: str | None) -> str:
    return f"{verb} {kind.name} {f'{namespace}/' if namespace else ''}{name}"


def _reading(kind: Kind, name: str, namespace: str | None) -> str:
    return _doing("reading", kind, name, namespace)
