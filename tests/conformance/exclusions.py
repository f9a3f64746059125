"""The scenarios of the suite that do not apply to us, with the reason for each.

A scenario that is listed here and passes all the same is an error too: no reason outlives itself.
"""

from typing import Final

_SPECIFICATION: Final = "https://modelcontextprotocol.io/specification/2025-11-25"
_NO_LOGGING: Final = (
    "an optional capability that is not declared, and deprecated since (SEP-2577). "
    f"{_SPECIFICATION}/server/utilities/logging#capabilities"
)
_NO_MID_CALL_REQUESTS: Final = (
    "the client is asked in the middle of a call, which needs a session, and a session is "
    "optional; in 2026-07-28 the same is asked without one, and passes. "
    f"{_SPECIFICATION}/basic/transports#session-management"
)
_NO_SUBSCRIPTIONS: Final = (
    "an optional capability that is not declared, and belongs to a session. "
    f"{_SPECIFICATION}/server/resources#capabilities"
)
_NO_SESSION: Final = (
    "looks no further where no session is assigned, which a server MAY do. "
    f"{_SPECIFICATION}/basic/transports#session-management"
)

NOT_OFFERED: Final[dict[str, dict[str, str]]] = {
    "2025-11-25": {
        "logging-set-level": _NO_LOGGING,
        "tools-call-with-logging": _NO_LOGGING,
        "tools-call-sampling": _NO_MID_CALL_REQUESTS,
        "tools-call-elicitation": _NO_MID_CALL_REQUESTS,
        "elicitation-sep1034-defaults": _NO_MID_CALL_REQUESTS,
        "elicitation-sep1330-enums": _NO_MID_CALL_REQUESTS,
        "resources-subscribe": _NO_SUBSCRIPTIONS,
        "resources-unsubscribe": _NO_SUBSCRIPTIONS,
        "server-sse-multiple-streams": _NO_SESSION,
        "server-sse-polling": _NO_SESSION,
    },
    "2026-07-28": {},
}
"""Of each revision, the scenarios that do not pass, and why that is as it should be."""

SERVICE_SCENARIOS: Final[dict[str, frozenset[str]]] = {
    "2025-11-25": frozenset(
        {
            "dns-rebinding-protection",
            "ping",
            "prompts-list",
            "resources-list",
            "server-initialize",
            "tools-list",
        }
    ),
    "2026-07-28": frozenset(
        {
            "caching",
            "dns-rebinding-protection",
            "http-header-validation",
            "input-required-result-unsupported-methods",
            "prompts-list",
            "resources-list",
            "sep-2164-resource-not-found",
            "server-sse-multiple-streams",
            "server-stateless",
            "tools-list",
        }
    ),
}
"""Of each revision, the scenarios that need no tool, resource or prompt of the suite's own."""
