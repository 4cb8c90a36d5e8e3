"""The command lines of the control plane, and the files they read: pure, but for writing those files."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tollkeeper_cluster.binaries import Binaries
from tollkeeper_cluster.certificates import Authority, KeyPair, service_account_keys
from tollkeeper_cluster.kubeconfig import write_kubeconfig, write_private

LOOPBACK = "127.0.0.1"
ADMIN = "tollkeeper-admin"
ADMIN_CONTEXT = "tollkeeper-local"
_CONTROLLER_MANAGER = "system:kube-controller-manager"
# RFC 2544 addresses, which never belong to a real host; nothing listens on them here.
_SERVICE_RANGE = "198.18.2.0/23"
_FIRST_SERVICE_ADDRESS = "198.18.2.1"
# A socket in the run folder, which only its owner may enter: no port to find, and etcd needs no certificates. All
# servers run in that folder, so the name is relative, and short whatever the folder is called.
_ETCD = "unix://etcd.sock"
_ETCD_PEER = "unix://etcd-peer.sock"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files in the run folder that the servers and the administrator identify themselves with."""

    folder: Path
    authority: Authority
    server: str

    def write(self, now: datetime) -> None:
        """Write every key, certificate and kubeconfig that the servers read."""
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        signing = service_account_keys()
        self._write_pair("authority", self.authority.pair)
        self._write_pair("server", self.authority.server(names, [LOOPBACK, _FIRST_SERVICE_ADDRESS], now))
        write_private(self.folder / "service-account.key", signing.private)
        write_private(self.folder / "service-account.pub", signing.public)
        self.kubeconfig("controller-manager", _CONTROLLER_MANAGER, (), ADMIN_CONTEXT, now)
        self.kubeconfig("admin", ADMIN, ("system:masters",), ADMIN_CONTEXT, now)
        self._write_pair("admin", self.authority.client(ADMIN, ("system:masters",), now))

    def kubeconfig(self, name: str, user: str, groups: tuple[str, ...], context: str, now: datetime) -> Path:
        """Issue a certificate for `user` in `groups`, and write the kubeconfig `NAME.kubeconfig` with it."""
        return write_kubeconfig(
            self.folder / f"{name}.kubeconfig",
            server=self.server,
            authority=self.authority.pair.certificate,
            user=user,
            pair=self.authority.client(user, groups, now),
            context=context,
        )

    def _write_pair(self, name: str, pair: KeyPair) -> None:
        write_private(self.folder / f"{name}.crt", pair.certificate)
        write_private(self.folder / f"{name}.key", pair.key)


def etcd_command(binaries: Binaries) -> list[str]:
    """Etcd for one run: it never waits for the disk, since its data ends with the run."""
    return [
        str(binaries.etcd),
        "--name=tollkeeper",
        "--data-dir=etcd",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={_ETCD_PEER}",
        f"--initial-advertise-peer-urls={_ETCD_PEER}",
        f"--initial-cluster=tollkeeper={_ETCD_PEER}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server_command(binaries: Binaries, port: int) -> list[str]:
    """The API server on loopback: RBAC, client certificates, service accounts."""
    command = [
        str(binaries.api_server),
        f"--etcd-servers={_ETCD}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        # We hold the port (a socket that is bound and never listens), and let this server share it: see LocalCluster.
        "--permit-port-sharing=true",
        "--endpoint-reconciler-type=none",
        f"--advertise-address={_FIRST_SERVICE_ADDRESS}",
        "--cert-dir=.",
        "--tls-cert-file=server.crt",
        "--tls-private-key-file=server.key",
        "--client-ca-file=authority.crt",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=service-account.pub",
        "--service-account-signing-key-file=service-account.key",
        f"--service-cluster-ip-range={_SERVICE_RANGE}",
        "--allow-privileged=true",
        "--profiling=false",
    ]
    if binaries.controller_manager is None:
        # Nobody creates default service accounts then, and this plugin would refuse every pod.
        command.append("--disable-admission-plugins=ServiceAccount")
    return command


def controller_manager_command(program: Path) -> list[str]:
    """The controllers: namespaces end, Deployments make pods, service accounts exist. It serves nothing itself."""
    return [
        str(program),
        "--kubeconfig=controller-manager.kubeconfig",
        "--use-service-account-credentials=true",
        "--service-account-private-key-file=service-account.key",
        "--root-ca-file=authority.crt",
        "--cluster-signing-cert-file=authority.crt",
        "--cluster-signing-key-file=authority.key",
        "--leader-elect=false",
        "--secure-port=0",
        # One user on one machine: the default client limit would make namespaces of a test run end slowly.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]
