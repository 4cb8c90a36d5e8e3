"""`tollkeeper up` and the simulated provider as processes on free ports, for tests that treat them as users do."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

PROGRAM = str(Path(sys.executable).with_name("tollkeeper"))
PROVIDER_KEY = "sk-simulated"
START_SECONDS = 60.0

Value = TypeVar("Value")


def wait_for(what: str, ask: Callable[[], Value | None], seconds: float = 20.0) -> Value:
    """The first answer of `ask` that is true. Fails the test, naming `what`, after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)


class Up:
    """One `tollkeeper up`, startable again over the same data."""

    def __init__(self, folder: Path, environment: Mapping[str, str], provider_url: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "up.log"
        self.config = folder / "tollkeeper.yaml"
        ports = dict.fromkeys(("gateway", "gateway_metrics", "webhook", "webhook_health", "operator", "console"), 0)
        upstreams = {"openai": {"url": provider_url, "key": {"env": "OPENAI_PROVIDER_KEY"}}}
        self.config.write_text(
            yaml.safe_dump({"upstreams": upstreams, "storage": {"directory": str(self.data)}, "ports": ports})
        )
        self._environment = {**os.environ, **environment, "OPENAI_PROVIDER_KEY": PROVIDER_KEY}
        self._process: subprocess.Popen[bytes] | None = None
        self.addresses: dict[str, str] = {}

    def start(self, *arguments: str) -> "Up":
        """Start it and wait until it says that it is ready."""
        begin = self.log.stat().st_size if self.log.exists() else 0
        self.launch(*arguments)
        self.addresses = wait_for("`tollkeeper up` to be ready", lambda: self._ready_line(begin), START_SECONDS)
        return self

    def launch(self, *arguments: str) -> None:
        """Start it without waiting."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "up", "--config", str(self.config), *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _ready_line(self, begin: int) -> dict[str, Any] | None:
        assert self._process is not None
        text = self.log.read_bytes()[begin:].decode(errors="replace")
        assert self._process.poll() is None, f"`tollkeeper up` ended: {text[-2000:]}"
        for line in text.splitlines():
            if '"event": "ready"' in line:
                ready: dict[str, Any] = json.loads(line)
                return ready
        return None

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def send(self, number: signal.Signals) -> "Up":
        """Send it a signal; `wait` for what comes of it."""
        assert self._process is not None
        self._process.send_signal(number)
        return self

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(60)

    def wait(self, seconds: float = 60.0) -> int:
        """The exit code of a process that ends by itself."""
        assert self._process is not None
        code = self._process.wait(seconds)
        self._process = None  # not before: one that ends too late must still be killed
        return code

    def tollkeeper(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Another command of the program, in the same environment."""
        done = subprocess.run(
            [PROGRAM, *arguments], env=self._environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def new_key(self, tenant: str, *arguments: str) -> str:
        """A fresh API key of a tenant."""
        return self.tollkeeper("keys", "create", "--tenant", tenant, *arguments).stdout.strip()

    def exported(self) -> list[dict[str, Any]]:
        """The ledger's transactions, as `tollkeeper export` prints them."""
        lines = self.tollkeeper("export", "--data-dir", str(self.data)).stdout.splitlines()
        return [json.loads(line) for line in lines]


@contextmanager
def simulated_provider(folder: Path, *arguments: str) -> Iterator[tuple[str, Path]]:
    """A provider process: its address and its book."""
    book, log = folder / "book.jsonl", folder / "provider.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, "provider", "--port", "0", "--key", PROVIDER_KEY, "--book", str(book), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def address() -> str | None:
        text = log.read_text(errors="replace")
        assert process.poll() is None, text
        return text.rpartition(" listens on ")[2].strip() or None if " listens on " in text else None

    try:
        yield wait_for("the simulated provider", address), book
    finally:
        process.terminate()
        process.wait(20)
