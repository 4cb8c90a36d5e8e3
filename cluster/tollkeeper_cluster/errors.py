"""What can go wrong with the local cluster: one small tree, each message one line that says what to do.

ClusterError
├── ToolchainMissing   Go is not installed, or too old
├── BuildFailed        the Kubernetes programs could not be fetched, compiled or stored
├── StartFailed        a server of the control plane did not come up, or ended
└── ContextUnusable    the kube context that was named does not exist or cannot be read
"""


class ClusterError(Exception):
    """The local cluster cannot do what it was asked to do."""


class ToolchainMissing(ClusterError):
    """There is no Go toolchain that can build the pinned versions."""


class BuildFailed(ClusterError):
    """The Go toolchain is there, and the build still failed."""


class StartFailed(ClusterError):
    """A server of the control plane did not become ready."""


class ContextUnusable(ClusterError):
    """The kube context that was named cannot be used."""
