"""The local cluster: etcd, API server and controllers of one run, on loopback, gone without a trace when it ends."""

import contextlib
import http.client
import os
import re
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from tollkeeper_cluster.binaries import Binaries, ensure_binaries
from tollkeeper_cluster.certificates import Authority
from tollkeeper_cluster.control_plane import (
    ADMIN_CONTEXT,
    LOOPBACK,
    Credentials,
    api_server_command,
    controller_manager_command,
    etcd_command,
)
from tollkeeper_cluster.errors import StartError
from tollkeeper_cluster.progress import Progress, silent
from tollkeeper_cluster.run import Run

_API_SERVER = "kube-apiserver"
_CONTROLLERS = "kube-controller-manager"
_ETCD = "etcd"
_POLL_SECONDS = 0.05


class LocalCluster:
    """A running control plane of our own. Use it as a context manager, or call `stop`.

    No kubelet and no scheduler run: pods are objects that stay Pending. The API server reaches programs of this
    machine, webhooks too, under 127.0.0.1.
    """

    context = ADMIN_CONTEXT
    webhook_host = LOOPBACK

    def __init__(self, binaries: Binaries, run: Run, reserved: socket.socket) -> None:
        self._binaries, self._run, self._reserved = binaries, run, reserved
        self._port: int = reserved.getsockname()[1]
        self._users = 0
        self._issuing = threading.Lock()
        self.server = f"https://{LOOPBACK}:{self._port}"
        self._credentials = Credentials(run.folder, Authority(datetime.now(UTC)), self.server)

    @classmethod
    def start(
        cls, binaries: Binaries | None = None, *, progress: Progress = silent, timeout_seconds: float = 60.0
    ) -> Self:
        """Start a control plane, building its programs first if need be, and wait until it can be used.

        Raises ClusterError; nothing of the run is left then.
        """
        programs = binaries or ensure_binaries(progress)
        try:
            with contextlib.ExitStack() as undone:
                reserved = undone.enter_context(_reserved_port())
                run = Run()
                undone.callback(run.end)
                cluster = cls(programs, run, reserved)
                cluster._bring_up(time.monotonic() + timeout_seconds)
                undone.pop_all()
        except OSError as error:
            raise StartError(f"the local cluster cannot start: {error}; look at {tempfile.gettempdir()}") from error
        return cluster

    @property
    def folder(self) -> Path:
        """The run folder. It is removed when the cluster stops."""
        return self._run.folder

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; its context is `tollkeeper-local`."""
        return self.folder / "admin.kubeconfig"

    @property
    def kubectl(self) -> Path:
        """The kubectl of the cluster's own version."""
        return self._binaries.kubectl

    @property
    def has_controllers(self) -> bool:
        """Whether the controllers run. Without them no Deployment makes pods, and no namespace ends."""
        return self._binaries.controller_manager is not None

    def environment(self) -> dict[str, str]:
        """The variables under which any Kubernetes client finds this cluster, and a shell finds its kubectl."""
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.folder / "kubectl-cache"),
            "PATH": f"{self.kubectl.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }

    def kubeconfig_for(self, user: str, groups: tuple[str, ...] = (), context: str = ADMIN_CONTEXT) -> Path:
        """A kubeconfig for `user` (1 to 64 characters) in `groups`, by a client certificate. It grants no rights."""
        with self._issuing:
            self._users += 1
            name = f"user-{self._users}-{re.sub(r'[^A-Za-z0-9.-]', '_', user)}"
        return self._credentials.kubeconfig(name, user, groups, context, datetime.now(UTC))

    def stop_api_server(self) -> None:
        """End the API server alone: its address then refuses connections, and its data stays."""
        self._run.stop(_API_SERVER)

    def start_api_server(self, timeout_seconds: float = 60.0) -> None:
        """Start the API server again, at the same address, and wait until it is ready. Raises StartError."""
        deadline = time.monotonic() + timeout_seconds
        self._run.start(_API_SERVER, api_server_command(self._binaries, self._port))
        self._wait(_API_SERVER, deadline, lambda: self._answers("/readyz"))

    def failure(self) -> str | None:
        """Which server ended by itself, and what it said last; None while all is well."""
        return self._run.failure()

    def stop(self) -> None:
        """End the run: no process and no file of it is left. Safe to call again."""
        self._run.end()
        self._reserved.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _bring_up(self, deadline: float) -> None:
        self._credentials.write(datetime.now(UTC))
        self._run.start(_ETCD, etcd_command(self._binaries))
        self.start_api_server(deadline - time.monotonic())
        if self._binaries.controller_manager is not None:
            self._run.start(_CONTROLLERS, controller_manager_command(self._binaries.controller_manager))
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._wait(_CONTROLLERS, deadline, lambda: self._answers(account))

    def _wait(self, server: str, deadline: float, ready: Callable[[], bool]) -> None:
        while not ready():
            if failure := self._run.failure():
                raise StartError(failure)
            if time.monotonic() > deadline:
                words = self._run.last_words(server)
                raise StartError(f"{server} did not become ready in time; it said last: {words}")
            time.sleep(_POLL_SECONDS)

    def _answers(self, path: str) -> bool:
        trust = ssl.create_default_context(cafile=str(self.folder / "authority.crt"))
        trust.load_cert_chain(self.folder / "admin.crt", self.folder / "admin.key")
        connection = http.client.HTTPSConnection(LOOPBACK, self._port, timeout=5, context=trust)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _reserved_port() -> socket.socket:
    """A port of ours for as long as the returned socket is open, which never listens.

    The API server binds the same port beside it (SO_REUSEPORT: same user only). So no other program can take the port
    between our choice and the server's start, nor while the server is stopped.
    """
    reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind((LOOPBACK, 0))
    return reserved
