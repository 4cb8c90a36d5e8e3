"""What can go wrong with the local cluster: one small tree, each message one line that says what to do.

ClusterError
├── ToolchainError   Go is not installed, or too old
├── BuildError       the Kubernetes programs could not be fetched, compiled or stored
├── StartError       a server of the control plane did not come up, or ended
├── ContextError     the kube context that was named does not exist or cannot be read
└── KubectlError     kubectl was refused or failed
"""


class ClusterError(Exception):
    """The local cluster cannot do what it was asked to do."""


class ToolchainError(ClusterError):
    """There is no Go toolchain that can build the pinned versions."""


class BuildError(ClusterError):
    """The Go toolchain is there, and the build still failed."""


class StartError(ClusterError):
    """A server of the control plane did not become ready."""


class ContextError(ClusterError):
    """The kube context that was named cannot be used."""


class KubectlError(ClusterError):
    """Kubectl ended with a failure; the message holds what it said."""
