"""Refusals in OpenAI's shape (F1, F2): status, headers and body that make the official clients raise their own errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from tollkeeper.windows import format_time
from tollkeeper_sidecar.errors import Denial, RequestRefused

REQUEST_ID_HEADER: Final = "Tollkeeper-Request-Id"
RESET_HEADER: Final = "Tollkeeper-Reset"

_SHAPES: Final[dict[Denial, tuple[int, str, str | None]]] = {
    Denial.BAD_REQUEST: (400, "invalid_request_error", None),
    Denial.KEY_INVALID: (401, "invalid_request_error", "invalid_api_key"),
    Denial.NOT_PERMITTED: (403, "permission_error", "not_permitted"),
    Denial.NOT_METERED: (403, "permission_error", "not_metered"),
    Denial.MODEL_NOT_PRICED: (403, "permission_error", "model_not_priced"),
    Denial.UNKNOWN_ROUTE: (404, "invalid_request_error", "unknown_url"),
    Denial.BODY_TOO_LARGE: (413, "invalid_request_error", "request_too_large"),
    Denial.HEADERS_TOO_LARGE: (431, "invalid_request_error", "headers_too_large"),
    Denial.CONTENDED: (429, "rate_limit_exceeded", "rate_limit_exceeded"),
    Denial.USED_UP: (429, "insufficient_quota", "insufficient_quota"),
    Denial.OURS: (503, "server_error", "tollkeeper_unavailable"),
    Denial.PROVIDER_UNREACHABLE: (502, "server_error", "provider_unreachable"),
}


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """A refusal as it goes over the wire, all but the request's id."""

    status: int
    headers: dict[str, str]
    body: bytes


def answer_of(refused: RequestRefused) -> ErrorAnswer:
    """The answer to a refused request.

    Contended and own faults carry `Retry-After`; what is used up carries `x-should-retry: false` and its reset instead,
    because clients sleep a `Retry-After` to its end (F1).
    """
    status, kind, code = _SHAPES[refused.denial]
    headers = {"Content-Type": "application/json"}
    if refused.denial is Denial.USED_UP:
        headers["x-should-retry"] = "false"
        if refused.resets is not None:
            headers[RESET_HEADER] = format_time(refused.resets)
    elif refused.retry_after is not None:
        headers["Retry-After"] = str(refused.retry_after)
    body = error_body(refused.message, kind, refused.param, refused.code or code, refused.limits)
    return ErrorAnswer(status, headers, body)


def error_body(
    message: str, kind: str, param: str | None, code: str | None, limits: Sequence[Mapping[str, object]] = ()
) -> bytes:
    """OpenAI's error object. One field is ours: `limits`, which clients hand on as they hand on the rest."""
    error: dict[str, object] = {"message": message, "type": kind, "param": param, "code": code}
    return orjson.dumps({"error": error | ({"limits": limits} if limits else {})})


def error_event(message: str, code: str) -> bytes:
    """The server-sent event that ends a cut-off stream; no `[DONE]` follows it (F3)."""
    return b"data: " + error_body(message, "server_error", None, code) + b"\n\n"


def ours(message: str) -> RequestRefused:
    """A refusal that is our own fault: says so, and asks to come back in a second (F2)."""
    return RequestRefused(Denial.OURS, message, retry_after=1)
