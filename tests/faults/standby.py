"""A second PostgreSQL server that follows a first one, and takes its place."""

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from tests.postgres_server import PostgresServer, programs


class Standby(PostgresServer):
    """Begins as a copy of a running server and follows it until it is promoted."""

    def __init__(self, folder: Path, primary: PostgresServer) -> None:
        self._folder = folder
        self._programs = programs()
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._process = None
        self._run("pg_basebackup", "-d", primary.dsn("postgres"), "-D", str(folder / "data"), "-R", "-c", "fast")

    def promote(self) -> None:
        """From here on it takes writes."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote(true, 30)").fetchone() == (True,)


class Pair:
    """A primary and its standby, and the connection string that names both."""

    def __init__(self, primary: PostgresServer, standby: Standby) -> None:
        self.primary = primary
        self.standby = standby

    def new_database(self) -> str:
        """A database on both, wherever it can be written; what is committed from then on is on both, too."""
        dsn = self.primary.new_database()
        with psycopg.connect(self.primary.dsn("postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
        hosts = f"{self.primary._folder},{self.standby._folder}"
        return f"{dsn.replace(str(self.primary._folder), hosts)} target_session_attrs=read-write"

    def fail_over(self) -> None:
        """The primary is gone for good; the standby takes its place."""
        self.primary.kill()
        self.standby.promote()

    def part(self) -> None:
        """The standby goes away, and the primary goes on without it, as one that does not wait for it does."""
        self.standby.kill()
        with psycopg.connect(self.primary.dsn("postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            connection.execute("SELECT pg_reload_conf()")


@contextmanager
def following(primary: PostgresServer) -> Iterator[Pair]:
    """A standby of a server for the time of the block."""
    with TemporaryDirectory(prefix="tk-pg-", dir=tempfile.gettempdir(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        standby = Standby(folder, primary)
        try:
            standby.start()
            yield Pair(primary, standby)
        finally:
            standby.kill()
