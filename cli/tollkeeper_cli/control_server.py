"""The control socket's other end: the process that owns the ledger answers what commands ask of it. See `control`."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import structlog

from tollkeeper.errors import InvalidValue, TollkeeperError, Unavailable
from tollkeeper_cli import control
from tollkeeper_cli.errors import WrongRequest

MOST_AT_ONCE = 8

Perform = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]

_log = structlog.get_logger("tollkeeper.control")
_umask = threading.Lock()


@contextlib.asynccontextmanager
async def serving(folder: Path, perform: Perform) -> AsyncGenerator[None]:
    """Answer requests until the block ends. The caller owns the folder's ledger, so a socket that is there is stale.

    The folder is made where it is missing: a ledger on PostgreSQL makes none. Raises `Unavailable` where it cannot be.
    """
    await asyncio.to_thread(_make, folder)
    at_once = asyncio.Semaphore(MOST_AT_ONCE)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with at_once, asyncio.timeout(control.SECONDS):
                writer.write(await _answered(reader, perform))
                await writer.drain()
        except (TimeoutError, OSError) as error:
            _log.warning("a request on the control socket was not answered", error=repr(error))
        finally:
            writer.close()

    with control.address_in(folder) as address:
        with _umask:
            before = os.umask(0o177)
            try:
                server = await asyncio.start_unix_server(answer, address, limit=control.LARGEST_LINE)
            finally:
                os.umask(before)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()
            (folder / control.SOCKET).unlink(missing_ok=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"{folder}: the folder cannot be made ({error.strerror}); name another with --data-dir"
        ) from error


async def _answered(reader: asyncio.StreamReader, perform: Perform) -> bytes:
    try:
        request = orjson.loads(await reader.readuntil(b"\n"))
        if not isinstance(request, dict):
            raise InvalidValue("a request on the control socket is one JSON object in a line")
        answer: dict[str, Any] = {"done": await perform(request)}
    except (orjson.JSONDecodeError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        answer = {"error": f"the request cannot be read: {error}", "wrong": True}
    except WrongRequest as error:
        answer = {"error": str(error), "wrong": True}
    except TollkeeperError as error:
        answer = {"error": str(error)}
    return orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)
