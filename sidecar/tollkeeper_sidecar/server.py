"""HTTP listeners: the gateway's own, whose parse errors too come in OpenAI's shape, and the one for metrics and health."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler as Connection

from tollkeeper.identity import new_id
from tollkeeper_sidecar.errors import Denial, GatewayError, RequestRefused
from tollkeeper_sidecar.metrics import Metrics
from tollkeeper_sidecar.openai_errors import REQUEST_ID_HEADER, answer_of, ours
from tollkeeper_sidecar.settings import GatewaySettings

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_MOST_PENDING: Final = 1024
_OUR_FAULT: Final = 500

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _OpenAIConnection(Connection):
    """A connection whose requests that cannot be parsed are answered in OpenAI's shape."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """See aiohttp; always closes the connection."""
        if request.writer is not None and request.writer.output_size > 0:
            raise ConnectionError("an answer was begun and cannot be replaced by an error")
        if status >= _OUR_FAULT:
            # Only what fails while a failure is handled comes here, such as a log that cannot be written.
            refused = ours("the gateway failed on this request")
        elif isinstance(exc, LineTooLong):
            refused = RequestRefused(Denial.HEADERS_TOO_LARGE, "a header of this request is too large")
        else:
            refused = RequestRefused(
                Denial.BAD_REQUEST, f"this is not an HTTP request that can be read: {message or status}"
            )
        answer = answer_of(refused)
        headers = {**answer.headers, REQUEST_ID_HEADER: new_id()}
        response = web.Response(body=answer.body, status=answer.status, headers=headers)
        response.force_close()
        return response


class _OpenAIServer(web.Server):
    """A server of such connections."""

    def __call__(self) -> Connection:
        return _OpenAIConnection(self, loop=self._loop, **self._kwargs)


def gateway_server(handler: Handler, settings: GatewaySettings) -> web.Server:
    """The server of the gateway's requests, with the settings' bounds."""

    loop = asyncio.get_running_loop()

    def request_of(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            loop,
            client_max_size=settings.largest_body_bytes,
        )

    return _OpenAIServer(
        handler,
        request_factory=request_of,
        access_log=None,
        max_line_size=settings.largest_headers_bytes,
        max_field_size=settings.largest_headers_bytes,
    )


def metrics_server(
    metrics: Metrics, ended: Callable[[], str | None], missing: Callable[[], str | None], refresh: Callable[[], None]
) -> web.Server:
    """`/metrics`, `/healthz` and `/readyz`.

    `ended` says what only a restart cures, `missing` what keeps requests from being taken, `refresh` sets the gauges.
    """

    def verdict(wrong: str | None) -> web.Response:
        return web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        match request.path:
            case "/metrics":
                refresh()
                return web.Response(body=metrics.text(), headers={"Content-Type": _METRICS_TYPE})
            case "/healthz":
                return verdict(ended())
            case "/readyz":
                return verdict(missing())
            case _:
                return web.Response(text="not found: /metrics, /healthz and /readyz are here\n", status=404)

    return web.Server(answer, access_log=None)


async def listen(server: web.Server, host: str, port: int, *, what: str, drain_seconds: float) -> web.ServerRunner:
    """Start a listener. Raises `GatewayError` that names the address when it cannot be had."""
    runner = web.ServerRunner(server, shutdown_timeout=drain_seconds)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=_MOST_PENDING).start()
    except OSError as error:
        await runner.cleanup()
        reason = "the port is taken" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        raise GatewayError(
            f"{what}: cannot listen on {host}:{port}: {reason}; choose another port, or 0 for a free one"
        ) from error
    return runner


def address_of(runner: web.ServerRunner) -> str:
    """The URL that a listener answers at."""
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
