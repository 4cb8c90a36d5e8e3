"""What stands before every page: who may ask by which name, and what the browser may do with the answer.

The Host check is against DNS rebinding: a page of a foreign name that resolves to this machine must not read the
console. Any port is fine, so that forwarded ports work.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from tollkeeper_console.problems import problem
from tollkeeper_console.settings import LOOPBACK_NAMES

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""On every answer. Images may be data: because Tabler's style sheet draws its marks so."""


def is_own_name(host: str) -> bool:
    """Whether a Host header names this machine's loopback, with or without a port."""
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return name.lower() in LOOPBACK_NAMES


@web.middleware
async def refuse_foreign_names(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer only requests that name this machine."""
    host = request.headers.get("Host", "")
    if not is_own_name(host):
        return problem(421, f"Host {host!r} is not this console: open it as 127.0.0.1 or localhost.", request.path)
    return await handler(request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put `HEADERS` on an answer; only vendored files, whose folders name their version, are kept by the browser."""
    response.headers.update(HEADERS)
    vendored = request.path.startswith("/static/vendor/")
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if vendored else "no-cache"
