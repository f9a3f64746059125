"""The routes that requests to the Hub are counted by."""

import pytest

from schema.hub.routes import find_route


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/whoami-v2", "GET /api/whoami-v2"),
        ("/api/jobs/hardware", "GET /api/jobs/hardware"),
        ("/api/jobs/ada", "GET /api/jobs/{namespace}"),
        ("/api/jobs/ada/0123", "GET /api/jobs/{namespace}/{job}"),
        ("/api/jobs/ada/0123/logs", "GET /api/jobs/{namespace}/{job}/logs"),
        ("/api/spaces/zero-gpu/quota", "GET /api/spaces/zero-gpu/quota"),
        ("/api/models/ada/tiny", "GET /api/models/{owner}/{name}"),
        ("/api/datasets/ada/d/tree/main", "GET /api/{repository}/{rest}"),
        ("/v1/chat/completions", "GET /v1/{rest}"),
        ("/fal-ai/fal-ai/flux/dev", "GET /{provider}/{rest}"),
        ("/anything", "GET other"),
    ],
)
def test_find_route_names_no_name(path: str, route: str) -> None:
    """A route is one series; the names of namespaces, jobs and models would be one each."""
    assert find_route("GET", path) == route


def test_find_route_knows_no_method_of_a_stranger() -> None:
    """A method is a label too."""
    assert find_route("BREW", "/api/jobs/ada") == "other /api/jobs/{namespace}"
