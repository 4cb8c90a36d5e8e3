"""The programs of the story as processes: the simulated provider and `tollkeeper up`, started and stopped as a user would."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tollkeeper_cluster import Cluster
from tollkeeper_demo.settings import PORTS, DemoSettings
from tollkeeper_demo.telling import StoryError, Teller

READY_SECONDS = 60.0
STOP_SECONDS = 40.0
PROVIDER_KEY = "sk-simulated-provider"


class Program:
    """One process of ours, with its log in a file."""

    def __init__(self, arguments: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.arguments, self.log = arguments, log
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        if self._process is None:
            raise StoryError(f"{self.arguments[0]} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start it; its log goes on where it was."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("tollkeeper")), *self.arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment,
            )

    async def ready(self, url: str) -> None:
        """Wait until an address answers. Raises `StoryError` with the last line of a program that ends before."""
        async with aiohttp.ClientSession() as session:
            try:
                async with asyncio.timeout(READY_SECONDS):
                    while not await _answers(session, url):
                        self._still_runs()
                        await asyncio.sleep(0.05)
            except TimeoutError as late:
                raise StoryError(
                    f"tollkeeper {self.arguments[0]}: not ready after {READY_SECONDS:.0f} s; see {self.log}"
                ) from late

    def _still_runs(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise StoryError(f"tollkeeper {self.arguments[0]} ended: {lines[-1]}")

    def stop(self) -> None:
        """End it in order; kill it when it does not end in time."""
        self.end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise StoryError(
                f"tollkeeper {self.arguments[0]} did not end within {STOP_SECONDS:.0f} s; see {self.log}"
            ) from None

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
    """The cluster, the programs, and a folder for what they write."""

    def __init__(
        self, settings: DemoSettings, cluster: Cluster, folder: Path, teller: Teller, kubeconfig: Path
    ) -> None:
        self.settings, self.cluster, self.folder, self.teller = settings, cluster, folder, teller
        self.book, self.data = folder / "provider-book.jsonl", folder / "data"
        self._write_config()
        ports = settings.ports
        provider = ["provider", "--port", str(ports["provider"]), "--book", str(self.book), "--key", PROVIDER_KEY]
        self.provider = Program(provider, folder / "provider.log", {})
        up = ["up", "--config", str(folder / "tollkeeper.yaml"), "--webhook-host", _webhook_host(settings, cluster)]
        environment = {"KUBECONFIG": str(kubeconfig), "OPENAI_PROVIDER_KEY": PROVIDER_KEY}
        self.up = Program(up, folder / "up.log", environment)

    def _write_config(self) -> None:
        ports = {server: port for server, port in self.settings.ports.items() if server != "provider"}
        upstream = {"url": f"http://127.0.0.1:{self.settings.ports['provider']}", "key": {"env": "OPENAI_PROVIDER_KEY"}}
        config = {"upstreams": {"openai": upstream}, "storage": {"directory": str(self.data)}, "ports": ports}
        (self.folder / "tollkeeper.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def address(self, server: str, path: str = "") -> str:
        """The address of one of our servers."""
        return f"http://127.0.0.1:{self.settings.ports[server]}{path}"

    async def start_up(self) -> None:
        """Start `tollkeeper up` and wait until it says that it is ready."""
        self.up.start()
        try:
            await self.up.ready(self.address("operator", "/readyz"))
            await self.up.ready(self.address("gateway_metrics", "/readyz"))
        except StoryError as error:
            raise StoryError(f"{error}{self._hint(str(error))}") from error

    def _hint(self, text: str) -> str:
        taken = [variable for server, (variable, _) in PORTS.items() if str(self.settings.ports[server]) in text]
        return f" (here: {' or '.join(f'{variable}=' for variable in taken)} moves it)" if taken else ""

    def run(self, *arguments: str, shown: str | None = None, stdin: str | None = None, fails: bool = False) -> str:
        """Run a program, show it as typed with what it printed, and return that. Raises `StoryError` on the other outcome."""
        outcome = self.quiet(*arguments, stdin=stdin)
        said = (outcome.stdout + outcome.stderr).strip()
        self.teller.command(shown or " ".join(arguments), said)
        if (outcome.returncode != 0) is not fails:
            raise StoryError(f"`{shown or ' '.join(arguments)}` {'was let through' if fails else 'failed'}: {said}")
        return said

    def quiet(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program without showing it."""
        environment = {**os.environ, **self.cluster.environment()}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        return subprocess.run(
            arguments, capture_output=True, text=True, input=stdin, env=environment, check=False, timeout=60
        )

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
        """Stop everything that was started."""
        for program in (self.up, self.provider):
            program.stop()
