"""Which cluster to use: the one that was named, else a kind cluster made for us, else one of our own."""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tollkeeper_cluster.binaries import ensure_binaries
from tollkeeper_cluster.errors import ContextError
from tollkeeper_cluster.folders import held_folder, remove
from tollkeeper_cluster.kubeconfig import write_private
from tollkeeper_cluster.local import LocalCluster
from tollkeeper_cluster.progress import Progress, silent

_KIND_NAME_VARIABLE = "KIND_CLUSTER_NAME"
_KIND_NAME = "tollkeeper"
_ANSWER_SECONDS = 20


class Cluster(Protocol):
    """A Kubernetes that can be used: ours, or somebody's."""

    @property
    def context(self) -> str:
        """The context to use in `kubeconfig`; it is the current one there."""
        ...

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig file with that one context."""
        ...

    @property
    def kubectl(self) -> Path:
        """The kubectl to use with it."""
        ...

    @property
    def webhook_host(self) -> str | None:
        """The address at which its API server reaches this machine; None when that is not known."""
        ...

    def environment(self) -> dict[str, str]:
        """The variables under which any Kubernetes client finds this cluster."""
        ...

    def failure(self) -> str | None:
        """What is wrong with it, as far as that can be told; None while all seems well."""
        ...

    def stop(self) -> None:
        """Give the cluster up. One that is not ours runs on."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ExistingCluster:
    """A cluster that runs without us. We read it through a copy of the kubeconfig that holds the one context."""

    def __init__(self, context: str, kubectl: Path, kubeconfig: bytes, webhook_host: str | None) -> None:
        self.context, self.kubectl, self.webhook_host = context, kubectl, webhook_host
        folder, self._held = held_folder()
        self.kubeconfig = folder / "kubeconfig"
        write_private(self.kubeconfig, kubeconfig)

    def environment(self) -> dict[str, str]:
        """The variables under which any Kubernetes client finds this cluster."""
        path = f"{self.kubectl.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {"KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def failure(self) -> str | None:
        """Nothing: its owner looks after it."""
        return None

    def stop(self) -> None:
        """Remove our copy of the kubeconfig; the cluster runs on."""
        remove(self.kubeconfig.parent)
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def find_cluster(context: str | None = None, *, progress: Progress = silent) -> Cluster:
    """The cluster to use, in this order.

    1. The kube context `context`, when it is given. No other context is ever touched.
    2. A LocalCluster of the programs in KUBEBUILDER_ASSETS, when that is set.
    3. The kind cluster named `tollkeeper` (or by KIND_CLUSTER_NAME), when Docker and it run: its name says it is meant.
    4. A LocalCluster of programs out of the cache, or built into it, which takes minutes.

    Raises ClusterError.
    """
    if context:
        return _named(context, progress)
    if not os.environ.get("KUBEBUILDER_ASSETS") and (kind := _kind(progress)) is not None:
        return kind
    return LocalCluster.start(progress=progress)


def _named(context: str, progress: Progress) -> ExistingCluster:
    kubectl = _kubectl(progress)
    view = ["config", "view", "--raw", "--flatten", "--minify", f"--context={context}"]
    kubeconfig = subprocess.run([str(kubectl), *view], capture_output=True, check=False)
    if kubeconfig.returncode != 0:
        said = kubeconfig.stderr.decode(errors="replace").strip()
        raise ContextError(
            f"the kube context {context} cannot be used: {said}; `kubectl config get-contexts` lists those there are"
        )
    cluster = ExistingCluster(context, kubectl, kubeconfig.stdout, None)
    answer = _asked([str(kubectl), f"--kubeconfig={cluster.kubeconfig}", "get", "--raw=/version"])
    if answer is None:
        cluster.stop()
        raise ContextError(f"the API server of the kube context {context} does not answer: is the cluster running?")
    return cluster


def _kind(progress: Progress) -> ExistingCluster | None:
    name = os.environ.get(_KIND_NAME_VARIABLE, _KIND_NAME)
    if not (shutil.which("docker") and shutil.which("kind")):
        return None
    running = _asked(["docker", "ps", f"--filter=label=io.x-k8s.kind.cluster={name}", "--format={{.Names}}"])
    if not (running or "").strip():
        return None
    kubeconfig = _asked(["kind", "get", "kubeconfig", f"--name={name}"])
    if kubeconfig is None:
        return None
    gateway = _asked(["docker", "network", "inspect", "kind", "--format={{range .IPAM.Config}}{{.Gateway}} {{end}}"])
    addresses = [address for address in (gateway or "").split() if ":" not in address]
    return ExistingCluster(f"kind-{name}", _kubectl(progress), kubeconfig.encode(), next(iter(addresses), None))


def _kubectl(progress: Progress) -> Path:
    found = shutil.which("kubectl")
    return Path(found) if found else ensure_binaries(progress).kubectl


def _asked(command: list[str]) -> str | None:
    """What a program answers, or None when it is refused, fails or is silent too long."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
