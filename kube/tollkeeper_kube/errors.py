"""The errors of the API server's edge: one small tree. Each text is one line: what failed, where, what to do.

- `KubeError`: the API server did not do what was asked (an `Unavailable` of the domain).
  - `NoCluster`: no connection is configured (kubeconfig missing, damaged, or without that context).
  - `ApiUnreachable`: nobody answered in time, or the server failed.
  - `NotFound`: the object does not exist.
  - `MissingKind`: the server does not know the kind; its CRD is not installed.
  - `Conflict`: somebody else changed the object first. `AlreadyExists`: somebody else created it first.
  - `Forbidden`: we may not.
  - `Rejected`: the server, a policy or a webhook refuses the object.
  - `Expired`: a watch or a paged list began too long ago; list again.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tollkeeper.errors import Unavailable
from tollkeeper_kube.kinds import GROUP, Kind


class KubeError(Unavailable):
    """The API server did not do what was asked."""


class NoCluster(KubeError):
    """No connection to a cluster is configured."""


class ApiUnreachable(KubeError):
    """The API server did not answer, or failed."""


class NotFound(KubeError):
    """The object does not exist."""


class MissingKind(KubeError):
    """The API server does not know the kind."""


class Conflict(KubeError):
    """Somebody else was first."""


class AlreadyExists(Conflict):
    """The object exists already."""


class Forbidden(KubeError):
    """We are not permitted."""


class Rejected(KubeError):
    """The object was refused."""


class Expired(KubeError):
    """What the request refers to is too old for the server to remember."""


_BY_STATUS: dict[int, type[KubeError]] = {404: NotFound, 409: Conflict, 401: Forbidden, 410: Expired}


@asynccontextmanager
async def edge(host: str, what: str) -> AsyncIterator[None]:
    """Turn every way in which a connection can fail into `ApiUnreachable`."""
    try:
        yield
    except TimeoutError as cause:
        raise ApiUnreachable(f"{what}: the API server at {host} did not answer in time; try again") from cause
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as cause:
        reason = one_line(str(cause)) or type(cause).__name__
        remedy = "check that it runs and that the context is right"
        raise ApiUnreachable(f"{what}: cannot reach the API server at {host} ({reason}); {remedy}") from cause


def refusal(status: int, body: bytes, *, host: str, what: str, kind: Kind | None) -> KubeError:
    """The error for an answer that is not a success. `body` is a Kubernetes `Status`, or whatever came instead."""
    answer = _status_of(body)
    message = one_line(str(answer.get("message") or body.decode(errors="replace"))) or "no reason given"
    if status == 404 and kind is not None and not answer.get("details"):
        return MissingKind(_missing(kind, host))
    if status >= 500 or status == 429:
        return ApiUnreachable(f"{what}: the API server at {host} failed with {status}: {message}")
    if answer.get("reason") == "AlreadyExists":
        return AlreadyExists(f"{what}: {message}")
    if status == 401 or (status == 403 and _is_rbac(message)):
        return Forbidden(f"{what}: {message}; ask for that permission, or use another context")
    return _BY_STATUS.get(status, Rejected)(f"{what}: {message}")


def one_line(text: str) -> str:
    """The text without line breaks or runs of blanks."""
    return " ".join(text.split())


def _is_rbac(message: str) -> bool:
    # Admission refuses with 403 as well: only the authorizer speaks of what a user cannot do.
    return 'User "' in message and " cannot " in message


def _missing(kind: Kind, host: str) -> str:
    known = f"the API server at {host} does not know the kind {kind.name} ({kind.api_version})"
    if kind.group != GROUP:
        return f"{known}: it is too old, or the API is switched off"
    return f"{known}: run `tollkeeper up` without --no-install, or `tollkeeper crds | kubectl apply -f -`"


def _status_of(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) and answer.get("kind") == "Status" else {}
