"""The simulated provider's HTTP edge: OpenAI's routes, and every failure in the shape of OpenAI's errors."""

import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

import orjson
from aiohttp import web

from tollkeeper_provider import shapes
from tollkeeper_provider.answer import decide
from tollkeeper_provider.behaviour import Behaviour, parse_behaviour
from tollkeeper_provider.book import Book, BookEntry
from tollkeeper_provider.buckets import Buckets, parse_usage
from tollkeeper_provider.chat_request import ChatRequest, parse_chat_request
from tollkeeper_provider.delivery import BookAnswer, Delivery, send_stream, send_whole
from tollkeeper_provider.errors import HeaderError, ProviderError, Refusal
from tollkeeper_provider.prices import PriceTable

LARGEST_BODY_BYTES: Final = 64 * 2**20
_log = logging.getLogger("tollkeeper_provider")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Provider:
    """The simulated provider's routes over its book and prices. `now` gives the time, with its zone."""

    key: str
    book: Book
    prices: PriceTable
    seconds_per_token: float
    models: tuple[str, ...]
    now: Callable[[], datetime]

    def application(self) -> web.Application:
        """The routes: chat completions and models; anything else is a 404 in OpenAI's shape."""
        app = web.Application(middlewares=[_in_openai_shape, self._with_key], client_max_size=LARGEST_BODY_BYTES)
        app.on_response_prepare.append(_name_the_answer)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        return app

    @web.middleware
    async def _with_key(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        given = key.strip().encode(errors="surrogateescape")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self.key.encode()):
            raise Refusal(401, "Incorrect API key provided.", code="invalid_api_key")
        return await handler(request)

    async def _models(self, _request: web.Request) -> web.Response:
        return _json(shapes.models(self.models, created=0))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        behaviour = parse_behaviour(_header(request, "Provider-Behaviour"))
        usage_header = _header(request, "Provider-Usage")
        told = None if usage_header is None else parse_usage(usage_header)
        chat = parse_chat_request(await request.read())
        if behaviour.error_500:
            raise Refusal(500, "The simulated provider failed, as Provider-Behaviour asked.", type="server_error")
        at = self.now()
        heading = shapes.Heading(f"chatcmpl-{uuid4().hex}", int(at.timestamp()), chat.model)
        delivery = Delivery(
            request=request,
            heading=heading,
            answer=decide(chat, told, behaviour),
            behaviour=behaviour,
            include_usage=chat.include_usage,
            seconds_per_token=self._pace(behaviour),
            book=self._booking(heading, chat, at),
        )
        return await (send_stream if chat.stream else send_whole)(delivery)

    def _pace(self, behaviour: Behaviour) -> float:
        milliseconds = behaviour.milliseconds_per_token
        return self.seconds_per_token if milliseconds is None else milliseconds / 1000

    def _booking(self, heading: shapes.Heading, chat: ChatRequest, at: datetime) -> BookAnswer:
        async def book(buckets: Buckets, completed: bool) -> None:
            cost = self.prices.cost_nanodollars(chat.model, buckets, at)
            await self.book.append(BookEntry(heading.id, at, chat.model, chat.stream, buckets, cost, completed))

        return book


@web.middleware
async def _in_openai_shape(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """The only place where errors become answers."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return _refused(refusal)
    except HeaderError as error:
        return _refused(Refusal(400, str(error), param=str(error).partition(":")[0]))
    except ProviderError as error:
        _log.error("%s", error)
        return _refused(Refusal(500, f"simulated provider: {error}", type="server_error"))
    except web.HTTPRequestEntityTooLarge:
        return _refused(Refusal(413, f"the body is larger than {LARGEST_BODY_BYTES} bytes"))
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        return _refused(
            Refusal(404, f"Invalid URL ({request.method} {request.path}): the simulated provider has no such endpoint")
        )


async def _name_the_answer(request: web.Request, response: web.StreamResponse) -> None:
    """Every answer says that it is simulated, and repeats the caller's request id or carries a new one."""
    response.headers["Server"] = shapes.NAME
    response.headers["x-request-id"] = request.headers.get("x-request-id") or f"req_{uuid4().hex}"


def _header(request: web.Request, name: str) -> str | None:
    """A header's value; where it stands several times, all of them, as HTTP joins lists."""
    values = request.headers.getall(name, [])
    return ",".join(values) if values else None


def _refused(refusal: Refusal) -> web.Response:
    return _json(shapes.error(refusal), refusal.status)


def _json(body: shapes.Json, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
