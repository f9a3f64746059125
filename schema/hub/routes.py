"""Routes of the requests to the Hub, as the metrics name them: paths with placeholders."""

import re
from typing import Final

from schema.common.observability.metrics import OTHER

_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"})
_TEMPLATES: Final = (
    "/api/whoami-v2",
    "/api/jobs/hardware",
    "/api/jobs/{namespace}",
    "/api/jobs/{namespace}/auth-check/read",
    "/api/jobs/{namespace}/auth-check/write",
    "/api/jobs/{namespace}/{job}",
    "/api/jobs/{namespace}/{job}/cancel",
    "/api/jobs/{namespace}/{job}/logs",
    "/api/models/{owner}/{name}",
    "/api/models/{name}",
    "/api/spaces/zero-gpu/quota",
    "/api/spaces/{owner}/{name}",
    "/api/buckets/{owner}/{name}",
    "/api/buckets/{owner}/{name}/{rest}",
    "/api/{repository}/{rest}",
    "/v1/{rest}",
    "/{provider}/{rest}",
)
"""In the order in which they are tried; `{rest}` is one segment or more."""


def _compile(template: str) -> re.Pattern[str]:
    pattern = re.sub(r"\\{rest\\}", ".+", re.escape(template))
    return re.compile(re.sub(r"\\{[a-z]+\\}", "[^/]+", pattern))


_ROUTES: Final = tuple((_compile(template), template) for template in _TEMPLATES)


def find_route(method: str, path: str) -> str:
    """Return the method and the path of a request, with placeholders for all names in it."""
    known_method = method if method in _METHODS else OTHER
    for pattern, template in _ROUTES:
        if pattern.fullmatch(path.rstrip("/")):
            return f"{known_method} {template}"
    return f"{known_method} {OTHER}"
