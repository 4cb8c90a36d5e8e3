"""One request at the gateway's edge: who, what, held, passed on. The only place where refusals become answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

import aiohttp
import structlog
from aiohttp import web
from yarl import URL

from tollkeeper.identity import new_id
from tollkeeper.keys import ApiKey
from tollkeeper.policy import CurrentPolicy, PolicySet, TenantNode
from tollkeeper.usage import Outcome
from tollkeeper_sidecar import refusals
from tollkeeper_sidecar.admission import Admission, Plan
from tollkeeper_sidecar.callers import authenticate
from tollkeeper_sidecar.capturing import Capturing
from tollkeeper_sidecar.demand import Hold
from tollkeeper_sidecar.errors import Denial, RequestRefused
from tollkeeper_sidecar.headers import answer_headers, request_headers, secret_of
from tollkeeper_sidecar.holder import LeaseHolder
from tollkeeper_sidecar.meter import Exchange, Meter
from tollkeeper_sidecar.metrics import Metrics
from tollkeeper_sidecar.openai_chat import ChatRequest, body_with, parse_chat_request
from tollkeeper_sidecar.openai_errors import REQUEST_ID_HEADER, answer_of, ours
from tollkeeper_sidecar.recording import Recording
from tollkeeper_sidecar.relay import LOST, StreamRelay, cut_off, headers_of, is_stream, read_whole
from tollkeeper_sidecar.routes import Route, Routed, not_metered, route_of, split
from tollkeeper_sidecar.settings import GatewaySettings, Upstream
from tollkeeper_sidecar.settlement import Admitted
from tollkeeper_sidecar.waiting import Refused, Stale

_log = structlog.get_logger("tollkeeper.gateway")


@dataclass(frozen=True, slots=True)
class _Entered:
    """A request whose caller is known. `policy` is the one by which all of it is decided."""

    id: str
    request: web.BaseRequest
    upstream: Upstream
    routed: Routed
    policy: PolicySet
    key: ApiKey
    tenant: TenantNode


class RequestHandler:
    """Answers the requests of one gateway."""

    def __init__(
        self,
        settings: GatewaySettings,
        policy: CurrentPolicy,
        holder: LeaseHolder,
        meter: Meter,
        metrics: Metrics,
        capturing: Capturing,
        session: aiohttp.ClientSession,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._holder = holder
        self._meter = meter
        self._metrics = metrics
        self._capturing = capturing
        self._session = session
        self._clock = clock
        self._admission = Admission(settings)
        self._in_flight = 0
        self._upstreams: Mapping[str, Upstream] = {upstream.name: upstream for upstream in settings.upstreams}

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Every answer carries its id; whatever fails here is said to be our own fault."""
        request_id = new_id()
        self._in_flight += 1
        try:
            return await self._answer(request_id, request)
        except RequestRefused as refused:
            return self._refuse(request, request_id, refused)
        except web.HTTPRequestEntityTooLarge:
            message = (
                f"the body is larger than {self._settings.largest_body_bytes} bytes, which this gateway does not take"
            )
            return self._refuse(request, request_id, RequestRefused(Denial.BODY_TOO_LARGE, message))
        except web.RequestPayloadError as error:
            return self._refuse(
                request, request_id, RequestRefused(Denial.BAD_REQUEST, f"the body cannot be read: {error}")
            )
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes an answer, and a line in the log
            _log.exception("a request failed", request=request_id, error=repr(error))
            return self._refuse(request, request_id, ours("the gateway failed on this request; its log says why"))
        finally:
            self._in_flight -= 1

    def _refuse(self, request: web.BaseRequest, request_id: str, refused: RequestRefused) -> web.Response:
        self._metrics.refused(refused.denial.name.lower())
        if request.writer.output_size > 0:
            # An answer was begun: another one cannot follow it. The client sees that it is not whole.
            cut_off(request)
        answer = answer_of(refused)
        return web.Response(
            body=answer.body, status=answer.status, headers={**answer.headers, REQUEST_ID_HEADER: request_id}
        )

    async def _answer(self, request_id: str, request: web.BaseRequest) -> web.StreamResponse:
        if self._in_flight > self._settings.most_in_flight:
            raise ours("too many requests are in flight here: try again in a second")
        entered = self._enter(request_id, request)
        if entered.routed.route is Route.CHAT:
            return await self._chat(entered)
        if entered.routed.route is Route.UNMETERED_IF_ALLOWED and entered.tenant.unmetered != "Allow":
            raise not_metered(request.method, entered.upstream.name, entered.routed.path)
        return await self._pass(entered)

    def _enter(self, request_id: str, request: web.BaseRequest) -> _Entered:
        name, path = split(request.rel_url.raw_path)
        upstream = self._upstreams.get(name)
        if upstream is None:
            known = ", ".join(f"/{one}/…" for one in self._upstreams)
            raise RequestRefused(
                Denial.UNKNOWN_ROUTE, f"there is no upstream at {request.path}: this gateway has {known}"
            )
        policy = self._policy.value
        key, tenant = authenticate(policy, secret_of(request.headers))
        return _Entered(request_id, request, upstream, route_of(name, request.method, path), policy, key, tenant)

    async def _chat(self, entered: _Entered) -> web.StreamResponse:
        declared = entered.request.content_length
        if declared is not None and declared > self._settings.largest_body_bytes:
            raise web.HTTPRequestEntityTooLarge(self._settings.largest_body_bytes, declared)
        chat = parse_chat_request(await entered.request.read())
        now = self._clock()
        plan = self._admission.plan(
            entered.policy, entered.key, entered.tenant, entered.request.headers, entered.upstream.name, chat, now
        )
        hold = await self._hold(entered, plan)
        if entered.request.transport is None:
            self._holder.settle(hold, hold.unused)
            raise ours("the client left before its request was passed on")
        exchange = self._meter.begin(self._admitted(entered, plan, chat, hold, now))
        limit = hold.output_limit if plan.limited else None
        recording = self._capturing.begin(entered.tenant, entered.id, now)
        body = body_with(chat, limit, ask_usage=chat.stream)
        if recording is None:
            return await self._exchange(entered, exchange, chat, body, None)
        try:
            recording.asked(entered.request.headers.get("Content-Type", ""), chat.body)
            return await self._exchange(entered, exchange, chat, body, recording)
        finally:
            recording.end()

    async def _hold(self, entered: _Entered, plan: Plan) -> Hold:
        outcome = await self._holder.hold(plan.demand)
        match outcome:
            case Refused(refused, others):
                limits = dict(plan.accounts)
                raise refusals.refused_by(refused, others, limits, entered.policy, plan.caller, self._clock())
            case Stale(limit):
                raise refusals.stale(limit)
            case _:
                return outcome

    def _admitted(self, entered: _Entered, plan: Plan, chat: ChatRequest, hold: Hold, now: datetime) -> Admitted:
        return Admitted(
            id=entered.id,
            holder=self._holder.holder,
            caller=plan.caller,
            provider=entered.upstream.name,
            model=chat.model,
            tool=plan.tool,
            streamed=chat.stream,
            accounts=plan.accounts,
            tokens=plan.demand.tokens,
            price=plan.price,
            hold=hold,
            admitted_at=now,
        )

    async def _exchange(
        self, entered: _Entered, exchange: Exchange, chat: ChatRequest, body: bytes, recording: Recording | None
    ) -> web.StreamResponse:
        """Pass on and relay; the exchange is ended on every way out."""
        name = entered.upstream.name
        try:
            async with self._send(entered, body, readable=True) as answer:
                if answer.status == HTTPStatus.UNAUTHORIZED:
                    exchange.end_unused(Outcome.PROVIDER_ERROR, answer.status)
                    raise self._key_refused(entered)
                return await self._relay(entered, exchange, chat, answer, recording)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            exchange.end_unused(Outcome.PROVIDER_GONE, 502)
            raise RequestRefused(Denial.PROVIDER_UNREACHABLE, f"{name} cannot be reached: {error}") from error
        except LOST as error:
            # The request was sent: it may have been served, so its prompt is charged (M7).
            exchange.end_estimated(Outcome.PROVIDER_GONE, 502, 0)
            if recording is not None:
                recording.answers(HTTPStatus.BAD_GATEWAY, {})
            raise RequestRefused(
                Denial.PROVIDER_UNREACHABLE, f"{name} gave no answer: {str(error) or type(error).__name__}"
            ) from error
        finally:
            exchange.end_estimated(Outcome.CUT_OFF, 503, 0)

    async def _relay(
        self,
        entered: _Entered,
        exchange: Exchange,
        chat: ChatRequest,
        answer: aiohttp.ClientResponse,
        recording: Recording | None,
    ) -> web.StreamResponse:
        """Pass an answer on, as a stream where it is one. What is not read to its end gets an answer of our own."""
        if chat.stream and is_stream(answer):
            copied = None
            if recording is not None:
                recording.answers(answer.status, answer.headers)
                copied = recording.add
            hide, seconds = not chat.wants_usage, self._settings.follow_seconds
            relay = StreamRelay(
                exchange, answer, entered.request, hide_usage=hide, follow_seconds=seconds, copied=copied
            )
            return await relay.run()
        if recording is not None:
            recording.answers(HTTPStatus.BAD_GATEWAY, {})
        body = await read_whole(exchange, answer, self._settings.largest_answer_bytes)
        if recording is not None:
            recording.answers(answer.status, answer.headers)
            recording.add(body)
        return web.Response(body=body, status=answer.status, headers=headers_of(exchange, answer))

    def _key_refused(self, entered: _Entered) -> RequestRefused:
        """The provider takes the gateway's key no longer: not the caller's fault, and not theirs to mend."""
        name = entered.upstream.name
        _log.error("the provider refuses the gateway's key", upstream=name, setting=f"upstreams.{name}.key")
        return ours(f"{name} refuses this gateway's key; whoever runs it must renew upstreams.{name}.key")

    async def _pass(self, entered: _Entered) -> web.StreamResponse:
        """Relay without metering."""
        request = entered.request
        try:
            async with self._send(entered, request.content if request.body_exists else None, readable=False) as answer:
                if answer.status == HTTPStatus.UNAUTHORIZED:
                    raise self._key_refused(entered)
                response = web.StreamResponse(status=answer.status, headers=answer_headers(answer.headers))
                response.headers[REQUEST_ID_HEADER] = entered.id
                await response.prepare(request)
                async for data in answer.content.iter_any():
                    await response.write(data)
                await response.write_eof()
                return response
        except LOST as error:
            raise RequestRefused(
                Denial.PROVIDER_UNREACHABLE, f"{entered.upstream.name} cannot be reached: {error}"
            ) from error

    def _send(
        self, entered: _Entered, body: bytes | aiohttp.StreamReader | None, *, readable: bool
    ) -> "aiohttp.client._RequestContextManager":
        query = entered.request.rel_url.raw_query_string
        address = entered.upstream.address_of(entered.routed.path) + (f"?{query}" if query else "")
        return self._session.request(
            entered.request.method,
            URL(address, encoded=True),
            data=body,
            headers=request_headers(entered.request.headers, entered.upstream.key, readable=readable),
            allow_redirects=False,
        )
