"""One metered answer, from the provider to the client: in one piece or event by event."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from tollkeeper.usage import Outcome
from tollkeeper_sidecar.errors import Denial, RequestRefused
from tollkeeper_sidecar.headers import answer_headers
from tollkeeper_sidecar.meter import Exchange
from tollkeeper_sidecar.openai_errors import REQUEST_ID_HEADER, error_event
from tollkeeper_sidecar.openai_stream import ChatStream
from tollkeeper_sidecar.openai_usage import read_answer
from tollkeeper_sidecar.settlement import Ending
from tollkeeper_sidecar.sse import EventSplitter, EventTooLarge

LOST: Final = (aiohttp.ClientError, TimeoutError, OSError)
"""How a connection to a provider ends when it ends badly."""

_BAD_GATEWAY: Final = 502
_FIRST_ERROR_STATUS: Final = 300


def is_stream(answer: aiohttp.ClientResponse) -> bool:
    """Whether the provider answers with server-sent events."""
    return answer.status == 200 and answer.content_type == "text/event-stream"


async def read_whole(exchange: Exchange, answer: aiohttp.ClientResponse, largest: int) -> bytes:
    """Read the answer and settle: it may be passed on then. Raises `RequestRefused` when the provider dies on the way."""
    body = bytearray()
    try:
        async for data in answer.content.iter_any():
            body += data
            if len(body) > largest:
                raise aiohttp.ClientPayloadError(f"the answer is larger than {largest} bytes")
    except LOST as error:
        exchange.end_estimated(Outcome.PROVIDER_GONE, _BAD_GATEWAY, len(body))
        raise RequestRefused(
            Denial.PROVIDER_UNREACHABLE, f"{exchange.admitted.provider} ended its answer early: {_reason(error)}"
        ) from error
    except asyncio.CancelledError:
        exchange.end_estimated(Outcome.CUT_OFF, answer.status, len(body))
        raise
    whole = bytes(body)
    _end_whole(exchange, answer.status, whole)
    await exchange.durable()
    return whole


def _end_whole(exchange: Exchange, status: int, body: bytes) -> None:
    told = read_answer(body)
    outcome = Outcome.OK if status < _FIRST_ERROR_STATUS else Outcome.PROVIDER_ERROR
    if told.usage is not None:
        exchange.end(Ending(told.usage, outcome, status, told.upstream_id))
    elif outcome is Outcome.OK:
        exchange.end_estimated(outcome, status, told.output_bytes, told.upstream_id)
    else:
        exchange.end_unused(outcome, status)


def headers_of(exchange: Exchange, answer: aiohttp.ClientResponse) -> CIMultiDict[str]:
    """The provider's headers that pass, and the request's id."""
    headers = answer_headers(answer.headers)
    headers[REQUEST_ID_HEADER] = exchange.admitted.id
    return headers


class StreamRelay:
    """Relays one stream. The client may leave at any time: the rest is read all the same, to know what was used.

    `copied` is given what the client got, part by part.
    """

    def __init__(
        self,
        exchange: Exchange,
        answer: aiohttp.ClientResponse,
        request: web.BaseRequest,
        *,
        hide_usage: bool,
        follow_seconds: float,
        copied: Callable[[bytes], None] | None = None,
    ) -> None:
        self._exchange = exchange
        self._answer = answer
        self._request = request
        self._follow_seconds = follow_seconds
        self._copied = copied
        self._splitter = EventSplitter()
        self._chat = ChatStream(hide_usage=hide_usage)
        self._response = web.StreamResponse(status=answer.status, headers=headers_of(exchange, answer))
        self._client_gone = False
        self._reading = True

    async def run(self) -> web.StreamResponse:
        """Relay to the end; the request is settled when this returns or raises."""
        try:
            async with asyncio.timeout(None) as self._bound:
                await self._to_client(self._response.prepare(self._request))
                async for data in self._answer.content.iter_any():
                    await self._take(self._splitter.feed(data))
                if rest := self._splitter.rest():
                    await self._take([rest])
                self._reading = False
            await self._finish()
        except (*LOST, EventTooLarge) as error:
            await self._provider_gone(error)
        finally:
            self._end(Outcome.CUT_OFF)
        return self._response

    async def _take(self, events: list[bytes]) -> None:
        """Relay events; the one that ends the answer waits until the request is settled on disk."""
        out = bytearray()
        for event in events:
            passed = self._chat.read(event)
            if self._chat.settle_before and not self._exchange.ended:
                await self._write(out)
                out = bytearray()
                self._end(Outcome.OK)
                await self._exchange.durable()
            out += passed
        await self._write(out)

    async def _finish(self) -> None:
        """The provider closed in order; without a last word of usage and `[DONE]`, what it told so far has to do."""
        self._end(Outcome.OK if self._chat.usage else Outcome.PROVIDER_GONE)
        await self._exchange.durable()
        if not self._client_gone:
            await self._to_client(self._response.write_eof())

    async def _provider_gone(self, error: Exception) -> None:
        """The provider died, or went on for too long after the client had left."""
        self._reading = False
        self._end(Outcome.PROVIDER_GONE)
        await self._exchange.durable()
        name = self._exchange.admitted.provider
        await self._write(error_event(f"{name} ended its answer early: {_reason(error)}", "provider_gone"))
        if not self._client_gone:
            await self._to_client(self._response.write_eof())

    def _end(self, outcome: Outcome) -> None:
        chat, status = self._chat, self._response.status
        if self._client_gone:
            outcome = Outcome.CLIENT_GONE
        if chat.usage is not None:
            self._exchange.end(Ending(chat.usage, outcome, status, chat.upstream_id))
        else:
            self._exchange.end_estimated(outcome, status, chat.output_bytes, chat.upstream_id)

    async def _write(self, data: bytes | bytearray) -> None:
        if not data or self._client_gone:
            return
        sent = bytes(data)
        await self._to_client(self._response.write(sent))
        if self._copied is not None and not self._client_gone:
            self._copied(sent)

    async def _to_client(self, step: Awaitable[object]) -> None:
        """Send to the client; one that is gone, or takes nothing for too long, is not waited for any more."""
        try:
            async with asyncio.timeout(self._follow_seconds):
                await step
        except TimeoutError:
            cut_off(self._request)
            self._client_left()
        except (ConnectionError, aiohttp.ClientConnectionError):
            self._client_left()

    def _client_left(self) -> None:
        self._client_gone = True
        if self._reading:
            self._bound.reschedule(asyncio.get_running_loop().time() + self._follow_seconds)


def cut_off(request: web.BaseRequest) -> None:
    """Close a connection on which an answer was begun that cannot be ended."""
    if request.transport is not None:
        request.transport.abort()


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
