"""The peer of durable grants: a Redis server, and the load that its own `redis-benchmark` makes.

Its programs are those on PATH, else those of the distribution's packages, unpacked into the cache and not installed.
"""

import csv
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.workspace import CannotMeasure, kept

REMEDY = "install redis-server (Debian and Ubuntu: apt-get update && apt-get install redis-server)"
COUNTERS = 64
SCRIPT = """
local amount = tonumber(ARGV[1])
for i = 1, 4 do if tonumber(redis.call('GET', KEYS[i]) or '0') < amount then return 0 end end
for i = 1, 4 do redis.call('DECRBY', KEYS[i], amount) end
return 1
"""
FILL = """
redis.call('SET', 'org', ARGV[1])
for _, level in ipairs({'department', 'team', 'project'}) do
  for number = 0, ARGV[2] - 1 do redis.call('SET', string.format('%s:%012d', level, number), ARGV[1]) end
end
return 1
"""
KEYS = ("org", "department:__rand_int__", "team:__rand_int__", "project:__rand_int__")
_START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Programs:
    """Where `redis-server`, `redis-cli` and `redis-benchmark` are, and what they need to start."""

    folder: Path
    environment: Mapping[str, str]


def programs() -> Programs:
    """The programs. Raises `CannotMeasure` with how to get them."""
    if found := shutil.which("redis-server"):
        return Programs(Path(found).parent, os.environ)
    folder = kept("redis", _unpack)
    libraries = ":".join(str(path) for path in (folder / "usr" / "lib").glob("*-linux-gnu"))
    return Programs(folder / "usr" / "bin", {**os.environ, "LD_LIBRARY_PATH": libraries})


def _unpack(folder: Path) -> None:
    """The server's package and what it needs beyond what is installed, as the distribution's own client resolves it."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise CannotMeasure(REMEDY)
    (folder / "partial").mkdir()
    options = ["-o", f"Dir::Cache::archives={folder}", "-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User="]
    fetch = ["apt-get", "install", "-y", "-qq", "--download-only", "--no-install-recommends", *options, "redis-server"]
    if subprocess.run(fetch, capture_output=True, check=False).returncode != 0:
        if os.geteuid() != 0:
            raise CannotMeasure(REMEDY)
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
        if subprocess.run(fetch, capture_output=True, check=False).returncode != 0:
            raise CannotMeasure(REMEDY)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder], check=True)
        package.unlink()


@dataclass(frozen=True, slots=True)
class Server:
    """A running server that is durable at every answer."""

    programs: Programs
    socket: Path
    script: str

    def calls_per_second(self, connections: int, pipelined: int, calls: int) -> float:
        """How many scripts a second it runs for so many connections with so many calls under way on each."""
        load = ("-c", connections, "-P", pipelined, "-n", calls, "-r", COUNTERS, "--csv")
        told = run(self.programs, "redis-benchmark", self.socket, *load, "EVALSHA", self.script, 4, *KEYS, 1000)
        return float(next(iter(csv.DictReader(told.splitlines())))["rps"])


def run(programs: Programs, program: str, socket: Path, *arguments: object) -> str:
    """What a client program prints."""
    command = [str(programs.folder / program), "-s", str(socket), *map(str, arguments)]
    return subprocess.run(command, env=dict(programs.environment), capture_output=True, text=True, check=True).stdout


@contextmanager
def running(programs: Programs, folder: Path) -> Iterator[Server]:
    """A server on a socket of its own, with full counters; it ends with the block."""
    data = folder / "redis"
    data.mkdir()
    socket = data / "socket"
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    server = subprocess.Popen(
        [programs.folder / "redis-server", "--port", "0", "--unixsocket", socket, "--dir", data, *durable],
        env=dict(programs.environment), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not socket.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise CannotMeasure(f"redis-server did not start (exit code {server.poll()})")
            time.sleep(0.02)
        run(programs, "redis-cli", socket, "EVAL", FILL, 0, 10**17, COUNTERS)
        yield Server(programs, socket, run(programs, "redis-cli", socket, "SCRIPT", "LOAD", SCRIPT).strip())
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(data, ignore_errors=True)
