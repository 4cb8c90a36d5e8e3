"""The one edge to the API server: connection, typed errors, server-side apply, list, watch, installation.

Objects are plain JSON values; rooms parse them into their own values. Every call has a time bound. Every failure is
one of the `KubeError`s of `tollkeeper_kube.errors`.
"""

from tollkeeper_kube.connection import Credentials
from tollkeeper_kube.errors import (
    AlreadyExists,
    ApiUnreachable,
    Conflict,
    Expired,
    Forbidden,
    KubeError,
    MissingKind,
    NoCluster,
    NotFound,
    Rejected,
)
from tollkeeper_kube.informer import Change, Informer
from tollkeeper_kube.install import ensure_system_namespace, install
from tollkeeper_kube.kinds import FIELD_MANAGER, SYSTEM_NAMESPACE, Kind, Object, kind_of
from tollkeeper_kube.kube import Kube, Listing, WatchEvent, connect

__all__ = [
    "FIELD_MANAGER",
    "SYSTEM_NAMESPACE",
    "AlreadyExists",
    "ApiUnreachable",
    "Change",
    "Conflict",
    "Credentials",
    "Expired",
    "Forbidden",
    "Informer",
    "Kind",
    "Kube",
    "KubeError",
    "Listing",
    "MissingKind",
    "NoCluster",
    "NotFound",
    "Object",
    "Rejected",
    "WatchEvent",
    "connect",
    "ensure_system_namespace",
    "install",
    "kind_of",
]
