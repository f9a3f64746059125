"""Logging of both processes: structlog through the standard library, as JSON or for a terminal.

Events are constants in the form `noun.past_tense`, and facts are keys. No payload, result or
credential is ever logged, and a token that slips into a text is masked before it is written.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from schema.common.observability.outages import OutageFilter

_TOKEN: Final = re.compile(r"\bhf_[A-Za-z0-9_-]{4,}|(?<=[Bb]earer )[^\s\"']+")


def configure_logging(*, level: int = logging.INFO) -> None:
    """Send every log line of this process to standard error, in one form."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    is_terminal = sys.stderr.isatty()
    last: list[structlog.typing.Processor] = (
        [mask_tokens, structlog.dev.ConsoleRenderer()]
        if is_terminal
        else [
            structlog.processors.format_exc_info,
            mask_tokens,
            structlog.processors.JSONRenderer(),
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for logger_name in ("httpx2", "httpcore2", "arq.worker", "mcp", "sse_starlette"):
        logging.getLogger(logger_name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            OutageFilter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def mask_tokens(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask whatever looks like a token, in every text of a log line."""
    for key, fact in event.items():
        if isinstance(fact, str):
            event[key] = _TOKEN.sub("…", fact)
    return event
