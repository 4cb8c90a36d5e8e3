"""One structured log on standard error: readable on a terminal, JSON lines elsewhere."""

import logging
import os
import sys
from collections.abc import Mapping

import structlog


def renderer(terminal: bool, environment: Mapping[str, str]) -> structlog.typing.Processor:
    """How a line looks: for people on a terminal, in colours unless `NO_COLOR` is set (no-color.org), else JSON."""
    if terminal:
        return structlog.dev.ConsoleRenderer(colors=not environment.get("NO_COLOR"))
    return structlog.processors.JSONRenderer()


def configure_logs() -> None:
    """Send structlog and the standard library's loggers through the same renderer, from INFO up."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler, shown = logging.StreamHandler(), renderer(sys.stderr.isatty(), os.environ)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, shown]
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for chatty in ("kopf", "aiohttp.access", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
