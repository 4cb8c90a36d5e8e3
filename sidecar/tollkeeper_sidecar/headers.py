"""Which headers pass: everything but those of one connection (RFC 9110, section 7.6.1), our own, and the caller's key."""

from collections.abc import Iterable
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

OWN_PREFIX: Final = "tollkeeper-"

_ONE_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_REQUEST_ONLY: Final = frozenset(
    {
        "host",
        "content-length",
        "content-encoding",
        "expect",
        "authorization",
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        # Whose account at the provider is charged is the gateway's to say, with its key.
        "openai-organization",
        "openai-project",
        "cookie",
    }
)


def secret_of(headers: CIMultiDictProxy[str]) -> str | None:
    """The key that a caller presents: a bearer token, or one of the other providers' key headers."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or headers.get("x-goog-api-key") or None


def request_headers(headers: CIMultiDictProxy[str], key: str | None, *, readable: bool) -> CIMultiDict[str]:
    """The headers of a request to the provider, with its own key.

    `readable`: the answer has to be read here, so that no compression is offered for it.
    """
    passed = _passing(headers, _REQUEST_ONLY)
    if key is not None:
        passed["Authorization"] = f"Bearer {key}"
    if readable:
        passed["Accept-Encoding"] = "identity"
    return passed


def answer_headers(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The headers of a provider's answer that pass to the client."""
    return _passing(headers, ("content-length",))


def _passing(headers: CIMultiDictProxy[str], stopped: Iterable[str]) -> CIMultiDict[str]:
    named = {word.strip().lower() for value in headers.getall("Connection", ()) for word in value.split(",")}
    stop = _ONE_HOP | named | set(stopped)
    passed: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lower = name.lower()
        if lower not in stop and not lower.startswith(OWN_PREFIX):
            passed.add(name, value)
    return passed
