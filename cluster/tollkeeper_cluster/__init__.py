"""A local Kubernetes control plane for the demo and the tests: found where there is one, else built and started.

Development only; it is not part of the distribution.
"""

from tollkeeper_cluster.binaries import Binaries, ensure_binaries
from tollkeeper_cluster.errors import BuildError, ClusterError, ContextError, KubectlError, StartError, ToolchainError
from tollkeeper_cluster.find import Cluster, ExistingCluster, find_cluster
from tollkeeper_cluster.kubectl import Kubectl
from tollkeeper_cluster.local import LocalCluster

__all__ = [
    "Binaries",
    "BuildError",
    "Cluster",
    "ClusterError",
    "ContextError",
    "ExistingCluster",
    "Kubectl",
    "KubectlError",
    "LocalCluster",
    "StartError",
    "ToolchainError",
    "ensure_binaries",
    "find_cluster",
]
