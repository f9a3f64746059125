"""How the processes speak of themselves: structlog through stdlib, JSON unless a person watches.

Events are constants in the form `noun.past_tense`; facts are keys. No payload, result or
credential is ever one of them, and a token that slips into a text is masked on the way out.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

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
    person = sys.stderr.isatty()
    last: list[structlog.typing.Processor] = (
        [mask_tokens, structlog.dev.ConsoleRenderer()]
        if person
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
    for noisy in ("httpx2", "httpcore2", "arq.worker", "mcp", "sse_starlette"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def mask_tokens(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask anything that looks like a token, wherever it stands in a line."""
    for key, fact in event.items():
        if isinstance(fact, str):
            event[key] = _TOKEN.sub("…", fact)
    return event
