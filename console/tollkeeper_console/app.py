"""The console's HTTP application: routes, and the errors that become answers. All reading happens on a few threads."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from tollkeeper.limits import LimitRef
from tollkeeper_console import openapi
from tollkeeper_console.api import OPERATIONS, Operation, Question
from tollkeeper_console.events import EventHub
from tollkeeper_console.guard import Handler, add_headers, refuse_foreign_names
from tollkeeper_console.pages import Address, Pages, Rendering
from tollkeeper_console.parameters import once_only
from tollkeeper_console.problems import detail_of, problem, status_of
from tollkeeper_console.queries import Queries

STATIC = Path(__file__).parent / "static"
_LOG = logging.getLogger("tollkeeper.console")

Value = TypeVar("Value")

_BUDGET = "/budgets/{namespace}/{name}"
_QUOTA = "/quotas/{namespace}/{name}/{limit}"


class Site:
    """The handlers of one console."""

    def __init__(self, queries: Queries, page_size: int, hub: EventHub, readers: ThreadPoolExecutor) -> None:
        self._queries = queries
        self._page_size = page_size
        self._hub = hub
        self._readers = readers
        self._pages = Pages(queries, page_size)

    def application(self) -> web.Application:
        """The application, with every route."""
        app = web.Application(middlewares=[refuse_foreign_names, self._answer_errors])
        app.on_response_prepare.append(add_headers)
        app.router.add_get("/", self.overview)
        for kind, path in (("TokenBudget", _BUDGET), ("TokenQuota", _QUOTA)):
            app.router.add_get(path, self._account_page(kind))
            app.router.add_get(f"{path}/usages/{{usage}}", self._usage_page(kind))
        for operation in OPERATIONS:
            app.router.add_get(operation.path, self._operation(operation))
        app.router.add_get("/api/openapi.json", self.openapi)
        app.router.add_get("/events", self.events)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_static("/static", STATIC)
        return app

    async def overview(self, request: web.Request) -> web.Response:
        """All limits."""
        return await self._page(lambda: self._pages.overview(_address(request)))

    def _account_page(self, kind: str) -> Handler:
        async def page(request: web.Request) -> web.Response:
            address = _address(request)
            # A form sends its empty fields too: the address that stays is the one without them.
            if len(address.query) < len(request.query):
                raise web.HTTPSeeOther(address.to())
            return await self._page(lambda: self._pages.account(_ref(kind, request), address))

        return page

    def _usage_page(self, kind: str) -> Handler:
        async def page(request: web.Request) -> web.Response:
            usage = request.match_info["usage"]
            return await self._page(lambda: self._pages.usage(_ref(kind, request), usage, _address(request)))

        return page

    def _operation(self, operation: Operation) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            once_only([name for name, _ in request.query.items()])
            question = Question(dict(request.match_info), dict(request.query), self._page_size)
            text = await self._read(lambda: operation.ask(self._queries, question).model_dump_json())
            return web.Response(text=text, content_type="application/json")

        return answer

    async def openapi(self, _request: web.Request) -> web.Response:
        """The API's own description."""
        return web.json_response(await self._read(openapi.document))

    async def healthz(self, _request: web.Request) -> web.Response:
        """Whether the console answers."""
        return web.Response(text="ok\n")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """What changes, as it changes."""
        async with self._hub.listening() as listener:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
            await response.prepare(request)
            try:
                async for message in self._hub.messages(listener):
                    await response.write(message)
            except ConnectionResetError:
                _LOG.debug("a live page went away")
            return response

    async def _page(self, render: Callable[[], Rendering]) -> web.Response:
        return _html(await self._read(render))

    async def _read(self, question: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._readers, question)

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (asyncio.CancelledError, web.HTTPRedirection):
            raise
        except Exception as error:  # noqa: BLE001 - the edge: every error becomes an answer, unknown ones are logged
            status, detail = status_of(error), detail_of(error)
        if request.path.startswith(("/api/", "/events", "/static/")):
            return problem(status, detail, request.path)
        return _html(self._pages.error(status, detail, _address(request)))


def _address(request: web.Request) -> Address:
    return Address(request.rel_url.raw_path, {name: value for name, value in request.query.items() if value})


def _html(rendering: Rendering) -> web.Response:
    return web.Response(status=rendering.status, text=rendering.text, content_type="text/html")


def _ref(kind: str, request: web.Request) -> LimitRef:
    path = request.match_info
    return LimitRef(kind, path["namespace"], path["name"], path.get("limit", ""))
