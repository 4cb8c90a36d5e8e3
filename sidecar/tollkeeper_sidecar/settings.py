"""What a gateway is started with."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tollkeeper_sidecar.errors import GatewayError

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Upstream:
    """A provider behind the gateway: reached under `/<name>/…`, priced as provider `name`.

    `url` is what stands before `/v1` (an address that ends in `/v1` is taken too); `key` is the provider's own key, which
    replaces the caller's. Raises `GatewayError` for a name or an address that cannot be.
    """

    name: str
    url: str
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or not self.name.isprintable():
            raise GatewayError(f"upstream {self.name!r}: a name is one part of a path, such as openai")
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise GatewayError(
                f"upstream {self.name}: {self.url!r} is not an address; write one like https://host or http://host:port"
            )

    def address_of(self, path: str) -> str:
        """The provider's address for a path that begins with `/v1`, query included."""
        return self.url.rstrip("/").removesuffix("/v1") + path


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where a gateway listens, where it writes, and its bounds. Sizes are bytes, times are seconds.

    `default_output_tokens` bounds the answer of a request that names no limit; `default_context_tokens` bounds content
    by reference for models whose context window is unknown (H1). `spool_bytes` bounds what may wait for the authority:
    beyond it requests are refused rather than lost. `most_in_flight` bounds the requests that are answered at once,
    `most_waiting` those of them that wait for a lease. `silence_seconds` is how long a provider may say nothing,
    `follow_seconds` how long an answer is read on after its client has left, or waited for a client that takes nothing.
    `captured_body_bytes` bounds what is kept of a body where a tenant wants bodies kept, `captures_bytes` what all of them
    take in memory. Port 0 takes a free one.
    """

    data_dir: Path
    upstreams: tuple[Upstream, ...]
    host: str = "127.0.0.1"
    port: int = 4040
    metrics_port: int = 4041
    default_output_tokens: int = 16_384
    default_context_tokens: int = 1_048_576
    largest_body_bytes: int = 32 * MIB
    largest_answer_bytes: int = 64 * MIB
    largest_headers_bytes: int = 16 * 1024
    spool_bytes: int = 64 * MIB
    segment_bytes: int = 4 * MIB
    most_waiting: int = 1024
    most_in_flight: int = 2048
    connect_seconds: float = 10.0
    silence_seconds: float = 600.0
    follow_seconds: float = 120.0
    drain_seconds: float = 25.0
    report_seconds: float = 0.25
    captured_body_bytes: int = MIB
    captures_bytes: int = 64 * MIB

    def __post_init__(self) -> None:
        names = [upstream.name for upstream in self.upstreams]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise GatewayError(f"upstream {twice[0]} stands twice: name each upstream once")
        for name in ("default_output_tokens", "default_context_tokens", "segment_bytes", "most_waiting"):
            if getattr(self, name) < 1:
                raise GatewayError(f"{name}={getattr(self, name)}: write a number above zero")
        if self.spool_bytes < 2 * self.segment_bytes:
            raise GatewayError(
                f"spool_bytes={self.spool_bytes}: write at least twice segment_bytes={self.segment_bytes}"
            )
