"""The programs of the story as processes: the simulated provider and `tollkeeper up`, started and stopped as a user would.

They are children of a keeper (`tollkeeper_cluster.run`), which ends them and removes the stage's folder whatever happens to
the demo itself.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from secrets import token_bytes

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tollkeeper_cluster import Cluster
from tollkeeper_cluster.run import Run
from tollkeeper_demo.settings import DemoSettings
from tollkeeper_demo.telling import StoryError, Teller

READY_SECONDS = 60.0
STOP_SECONDS = 40.0
COMMAND_SECONDS = 60.0
_POLL_SECONDS = 0.02
PROVIDER_KEY = "sk-simulated-provider"


class Program:
    """One process of ours, kept by `run`, with its log in a file of the run's folder."""

    def __init__(self, run: Run, arguments: list[str], environment: Mapping[str, str]) -> None:
        self.arguments, self.name = arguments, arguments[0]
        self.log = run.folder / f"{self.name}.log"
        self._run = run
        self._environment = {**os.environ, **environment}
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        if self._pid is None:
            raise StoryError(f"{self.name} does not run")
        return self._pid

    def start(self) -> None:
        """Start it; its log goes on where it was."""
        command = [str(Path(sys.executable).with_name("tollkeeper")), *self.arguments]
        self._pid = self._run.start(self.name, command, self._environment)

    async def ready(self, url: str) -> None:
        """Wait until an address answers. Raises `StoryError` with the last line of a program that ends before."""
        async with aiohttp.ClientSession() as session:
            try:
                async with asyncio.timeout(READY_SECONDS):
                    while not await _answers(session, url):
                        self.still_runs()
                        await asyncio.sleep(0.05)
            except TimeoutError as late:
                raise StoryError(
                    f"tollkeeper {self.name}: not ready after {READY_SECONDS:.0f} s; it said last: {self.last_words()}"
                ) from late

    def still_runs(self) -> None:
        """Raise `StoryError` with its last words when it has ended."""
        if self._run.status(self.name) is not None:
            raise StoryError(f"tollkeeper {self.name} ended: {self.last_words()}")

    def last_words(self) -> str:
        """The last line of its log, which goes with the demo."""
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        return lines[-1]

    def stop(self) -> None:
        """End it in order; kill it, and raise `StoryError`, when it does not end in time."""
        if self._pid is None:
            return
        self._run.send_signal(self.name, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self._run.status(self.name) is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        late = self._run.status(self.name) is None
        self._run.stop(self.name)
        self._pid = None
        if late:
            raise StoryError(
                f"tollkeeper {self.name} did not end within {STOP_SECONDS:.0f} s; it said last: {self.last_words()}"
            )

    def memory_mib(self) -> int:
        """Its resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1024
        return 0


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
            return answer.status < 500
    except (aiohttp.ClientError, TimeoutError):
        return False


def _webhook_host(settings: DemoSettings, cluster: Cluster) -> str:
    host = settings.webhook_host or cluster.webhook_host
    if host is None:
        raise StoryError(
            f"the API server of {cluster.context} must reach the webhook on this machine, and its address is not known: "
            "name it with WEBHOOK_HOST="
        )
    return host


class Stage:
    """The cluster, the programs, and a folder for what they write: that of `run`."""

    def __init__(self, settings: DemoSettings, cluster: Cluster, run: Run, teller: Teller, kubeconfig: Path) -> None:
        self.settings, self.cluster, self.folder, self.teller = settings, cluster, run.folder, teller
        self.config = self.folder / "tollkeeper.yaml"
        self.book, self.data = self.folder / "provider-book.jsonl", self.folder / "data"
        self._commands: set[subprocess.Popen[str]] = set()
        self._write_config()
        ports = settings.ports
        provider = ["provider", "--port", str(ports["provider"]), "--book", str(self.book), "--key", PROVIDER_KEY]
        self.provider = Program(run, provider, {})
        host = _webhook_host(settings, cluster)
        up = ["up", "--config", str(self.config), "--webhook-host", host]
        environment = {"KUBECONFIG": str(kubeconfig), "OPENAI_PROVIDER_KEY": PROVIDER_KEY}
        self.up = Program(run, up, environment)

    def _write_config(self) -> None:
        ports = {server: port for server, port in self.settings.ports.items() if server != "provider"}
        upstream = {"url": f"http://127.0.0.1:{self.settings.ports['provider']}", "key": {"env": "OPENAI_PROVIDER_KEY"}}
        keys = self.folder / "bodies.keys"
        keys.touch(mode=0o600)
        keys.write_bytes(b64encode(token_bytes(32)) + b"\n")
        config = {
            "upstreams": {"openai": upstream},
            "storage": {"directory": str(self.data)},
            "ports": ports,
            "capture": {"keys": {"file": str(keys)}},
        }
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))

    def address(self, server: str, path: str = "") -> str:
        """The address of one of our servers."""
        return f"http://127.0.0.1:{self.settings.ports[server]}{path}"

    async def start_up(self) -> None:
        """Start `tollkeeper up` and wait until it says that it is ready."""
        self.up.start()
        await self.up.ready(self.address("operator", "/readyz"))
        await self.up.ready(self.address("gateway_metrics", "/readyz"))

    async def stays_up(self) -> None:
        """Wait while the programs run. Raises `StoryError` when one has ended."""
        while True:
            for program in (self.up, self.provider):
                program.still_runs()
            await asyncio.sleep(1)

    async def run(
        self, *arguments: str, shown: str | None = None, stdin: str | None = None, fails: bool = False
    ) -> str:
        """Run a program, show it as typed with what it printed, and return that. Raises `StoryError` on the other outcome."""
        outcome = await asyncio.to_thread(self.quiet, *arguments, stdin=stdin)
        said = (outcome.stdout + outcome.stderr).strip()
        self.teller.command(shown or " ".join(arguments), said)
        if (outcome.returncode != 0) is not fails:
            raise StoryError(f"`{shown or ' '.join(arguments)}` {'was let through' if fails else 'failed'}: {said}")
        return said

    def quiet(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program without showing it. What it leaves when it is killed goes with the stage's folder."""
        environment = {**os.environ, **self.cluster.environment(), "TMPDIR": str(self.folder)}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        # A process group of its own: Ctrl-C is for the demo, and must not look as if the command had failed.
        with subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            process_group=0,
        ) as command:
            self._commands.add(command)
            try:
                said, complained = command.communicate(stdin, timeout=COMMAND_SECONDS)
            except subprocess.TimeoutExpired as late:
                raise StoryError(f"`{' '.join(arguments)}` did not end within {COMMAND_SECONDS:.0f} s") from late
            finally:
                command.kill()
                self._commands.discard(command)
        return subprocess.CompletedProcess(arguments, command.returncode, said, complained)

    async def admissions_within(self, bound: str) -> tuple[int, int]:
        """How many of the webhook's answers took at most `bound` seconds, and how many there were."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.address("webhook_health", "/metrics")) as answer,
        ):
            samples = [
                sample
                for family in text_string_to_metric_families(await answer.text())
                for sample in family.samples
                if family.name == "tollkeeper_admission_seconds"
            ]
        within = sum(s.value for s in samples if s.name.endswith("_bucket") and s.labels["le"] == bound)
        return int(within), int(sum(s.value for s in samples if s.name.endswith("_count")))

    def close(self) -> None:
        """Stop everything that was started, commands on other threads too: nobody waits for them any more."""
        for command in tuple(self._commands):
            command.kill()
        with contextlib.ExitStack() as programs:
            programs.callback(self.provider.stop)
            programs.callback(self.up.stop)
