"""Which request goes where: metered, passed unmetered, or refused (H3). Pure."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from tollkeeper_sidecar.errors import Denial, RequestRefused

CHAT_COMPLETIONS: Final = "/v1/chat/completions"

_GENERATES_NOTHING: Final = ("/v1/models",)
_USAGE_UNKNOWN: Final = ("/v1/batches", "/v1/files", "/v1/uploads", "/v1/fine_tuning")


class Route(Enum):
    """What happens to a request."""

    CHAT = auto()
    UNMETERED = auto()
    UNMETERED_IF_ALLOWED = auto()


@dataclass(frozen=True, slots=True)
class Routed:
    """A request's upstream, the path behind it, and what happens to it."""

    upstream: str
    path: str
    route: Route


def split(path: str) -> tuple[str, str]:
    """The upstream's name and the provider's path of a path such as `/openai/v1/models`."""
    name, slash, rest = path.removeprefix("/").partition("/")
    return name, slash + rest


def route_of(upstream: str, method: str, path: str) -> Routed:
    """Where a request goes. Raises `RequestRefused` (not metered) for everything that is not known to be safe.

    Models are listed and read unmetered. Batches, files, uploads and fine-tuning generate where the answer does not tell:
    they pass for tenants that say `unmetered: Allow` alone.
    """
    if method == "POST" and path == CHAT_COMPLETIONS:
        return Routed(upstream, path, Route.CHAT)
    if "/." not in path and "%" not in path:
        if method in {"GET", "HEAD"} and _is_below(path, _GENERATES_NOTHING):
            return Routed(upstream, path, Route.UNMETERED)
        if _is_below(path, _USAGE_UNKNOWN):
            return Routed(upstream, path, Route.UNMETERED_IF_ALLOWED)
    raise not_metered(method, upstream, path)


def not_metered(method: str, upstream: str, path: str) -> RequestRefused:
    """The refusal of an endpoint whose usage is not metered."""
    return RequestRefused(
        Denial.NOT_METERED,
        f"{method} /{upstream}{path} is not metered here and therefore refused: use POST /{upstream}{CHAT_COMPLETIONS}",
    )


def _is_below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)
