"""What the local cluster is built from. The exact modules stand in `cluster/go/*/go.mod` and `go.sum`."""

from dataclasses import dataclass
from pathlib import Path

KUBERNETES_VERSION = "1.36.3"
ETCD_VERSION = "3.7.3"
GO_VERSION = (1, 26)

_SOURCES = Path(__file__).resolve().parents[1] / "go"
_VERSION_PACKAGE = "k8s.io/component-base/version"


@dataclass(frozen=True, slots=True)
class Module:
    """One Go module of ours and the commands to build out of it."""

    title: str
    folder: Path
    packages: tuple[str, ...]
    ldflags: str

    @property
    def build_flags(self) -> tuple[str, ...]:
        """Flags that decide what the compiler produces: the same for listing and for building."""
        return ("-trimpath", "-buildvcs=false", "-mod=readonly", f"-ldflags={self.ldflags}")


def _kubernetes_ldflags() -> str:
    # Without a version the server reports v0.0.0, and clients that ask for it misbehave.
    major, minor, _ = KUBERNETES_VERSION.split(".")
    stamps = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor}
    return "-s -w " + " ".join(f"-X {_VERSION_PACKAGE}.{name}={value}" for name, value in stamps.items())


ETCD = Module(f"etcd {ETCD_VERSION}", _SOURCES / "etcd", (".",), "-s -w")
KUBERNETES = Module(
    f"Kubernetes {KUBERNETES_VERSION}",
    _SOURCES / "kubernetes",
    tuple(f"k8s.io/kubernetes/cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kubectl")),
    _kubernetes_ldflags(),
)
MODULES = (ETCD, KUBERNETES)
