"""The control socket: how a command reaches the process that owns the ledger.

SQLite has one writing process. A command that writes therefore asks it, over a Unix socket in the data folder that its
owner alone may open (0600); where nothing runs, the command opens the ledger itself. One connection carries one request
and one answer, each a line of JSON: `{"done": …}` or `{"error": "…"}`, with `"wrong": true` where the request is at fault.
"""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import structlog

from tollkeeper.errors import InvalidValue, TollkeeperError, Unavailable
from tollkeeper_cli.errors import WrongRequest

SOCKET = "control.sock"
LARGEST_LINE = 4 << 20
"""Bytes of a request or an answer."""
MOST_AT_ONCE = 8
SECONDS = 30.0
_LONGEST_ADDRESS = 100


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
            async with at_once, asyncio.timeout(SECONDS):
                writer.write(await _answered(reader, perform))
                await writer.drain()
        except (TimeoutError, OSError) as error:
            _log.warning("a request on the control socket was not answered", error=repr(error))
        finally:
            writer.close()

    with _address(folder) as address:
        with _umask:
            before = os.umask(0o177)
            try:
                server = await asyncio.start_unix_server(answer, address, limit=LARGEST_LINE)
            finally:
                os.umask(before)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()
            (folder / SOCKET).unlink(missing_ok=True)


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


def ask(folder: Path, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The answer of the process that owns the folder's ledger; `None` where none listens.

    Raises `InvalidValue` with its words where it refuses, `WrongRequest` where the request is at fault, and `Unavailable`
    where it does not answer.
    """
    line = orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE)
    if len(line) > LARGEST_LINE:
        raise InvalidValue(f"the request has {len(line)} bytes and may have {LARGEST_LINE}; send it in parts")
    try:
        with _address(folder) as address, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(address)
            connection.sendall(line)
            with connection.makefile("rb") as stream:
                answer = orjson.loads(stream.readline(LARGEST_LINE))
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, orjson.JSONDecodeError) as error:
        where = folder / SOCKET
        raise Unavailable(f"{where}: `tollkeeper up` did not answer ({error}); see its log, then try again") from error
    if "error" in answer:
        raise (WrongRequest if answer.get("wrong") else InvalidValue)(answer["error"])
    done: Mapping[str, Any] = answer["done"]
    return done


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's path, by way of the open folder where it is longer than a socket's address can be."""
    path = str(folder / SOCKET)
    if len(path.encode()) <= _LONGEST_ADDRESS:
        yield path
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{SOCKET}"
    finally:
        os.close(opened)
