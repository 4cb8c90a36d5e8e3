"""The control socket: how a command reaches the process that owns the ledger.

SQLite has one writing process. A command that writes therefore asks it, over a Unix socket in the data folder that its
owner alone may open (0600); where nothing runs, the command opens the ledger itself. One connection carries one request
and one answer, each a line of JSON: `{"done": …}` or `{"error": "…"}`, with `"wrong": true` where the request is at fault.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from tollkeeper.errors import InvalidValue, Unavailable
from tollkeeper_cli.errors import WrongRequest

SOCKET = "control.sock"
LARGEST_LINE = 4 << 20
"""Bytes of a request or an answer."""
SECONDS = 30.0
_LONGEST_ADDRESS = 100


def ask(folder: Path, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The answer of the process that owns the folder's ledger; `None` where none listens.

    Raises `InvalidValue` with its words where it refuses, `WrongRequest` where the request is at fault, and `Unavailable`
    where it does not answer.
    """
    line = orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE)
    if len(line) > LARGEST_LINE:
        raise InvalidValue(f"the request has {len(line)} bytes and may have {LARGEST_LINE}; send it in parts")
    try:
        with address_in(folder) as address, socket.socket(socket.AF_UNIX) as connection:
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
def address_in(folder: Path) -> Iterator[str]:
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
