"""The edge where errors become answers: RFC 9457 problems for programs, a page with the same words for people."""

import json
import logging
from http import HTTPStatus

from aiohttp import web

from tollkeeper.errors import InvalidValue, TollkeeperError, Unavailable
from tollkeeper_console.errors import NotFound

_LOG = logging.getLogger("tollkeeper.console")


class BadRequest(InvalidValue):
    """A parameter of the address that cannot be."""


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    if isinstance(error, web.HTTPException):
        return error.status
    if isinstance(error, NotFound):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, BadRequest):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, Unavailable):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.INTERNAL_SERVER_ERROR


def detail_of(error: Exception) -> str:
    """What people are told. Faults of our own are logged with their trace and told without."""
    if isinstance(error, web.HTTPException):
        return {404: "There is no such page.", 405: "The console only reads: use GET."}.get(error.status, error.reason)
    if isinstance(error, TollkeeperError):
        return str(error)
    _LOG.error("the console failed to answer", exc_info=error)
    return "The console failed to answer. The reason stands in its log."


def problem(status: int, detail: str, instance: str) -> web.Response:
    """An answer in the form of RFC 9457; its type is `about:blank`, so the title is the status's own."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
    }
    return web.Response(status=status, text=json.dumps(body), content_type="application/problem+json")
