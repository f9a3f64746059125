"""The request of a job, read back from what the Hub says of the job."""

from datetime import timedelta
from typing import Any, Final

import pytest

from schema.hub.job import JOB_ADAPTER
from schema.hub.job_request import read_request

DESCRIPTION: Final[dict[str, Any]] = {
    "id": "6a31d7ef5ff0a6cf94f9f8b9",
    "dockerImage": "python:3.12",
    "command": ["python"],
    "arguments": ["-c", "print(1)"],
    "environment": {"A1": "x", "HOLDFAST_RUN": "y"},
    "secrets": ["HF_TOKEN", "API_KEY"],
    "flavor": "t4-small",
    "arch": "amd64",
    "timeout": 600,
    "retry": 1,
    "labels": {"team": "nlp", "holdfast-run": "y"},
    "volumes": [
        {"type": "bucket", "source": "ada/work", "mountPath": "/data", "path": "one"},
        {"type": "dataset", "source": "ada/set", "mountPath": "/set", "readOnly": True},
    ],
    "expose": {"ports": [8000]},
    "resourceGroup": {"id": "66b2c3d4e5f60718293a4b5c"},
    "status": {"stage": "RUNNING", "sshUrl": "ssh://x@ssh.hf.jobs"},
}


def test_a_request_is_read_back_whole() -> None:
    """A launch of it does the same, but for the values of its secrets."""
    request = read_request(JOB_ADAPTER.validate_python(DESCRIPTION))

    spec = request.spec
    assert (spec.image, spec.command) == ("python:3.12", ["python", "-c", "print(1)"])
    assert (spec.env, spec.secrets) == ({"A1": "x"}, ["API_KEY", "HF_TOKEN"])
    assert (spec.flavor, spec.timeout, spec.attempts) == ("t4-small", timedelta(minutes=10), 2)
    assert spec.volumes == [
        "hf://buckets/ada/work/one:/data:rw",
        "hf://datasets/ada/set:/set:ro",
    ]
    assert (spec.expose, spec.ssh) == ([8000], True)
    assert spec.resource_group_id == "66b2c3d4e5f60718293a4b5c"
    assert request.labels == {"team": "nlp"}
    assert request.has_unknown_secrets
    assert request.missing == []


@pytest.mark.parametrize(
    ("part", "missing"),
    [
        ({"network": {"group": "train"}}, ["network"]),
        ({"arch": "arm64"}, ["arch"]),
        ({"volumes": [{"type": "kernel", "source": "a/b", "mountPath": "/k"}]}, ["volumes"]),
        ({"volumes": [{"type": "bucket", "source": "../x", "mountPath": "/k"}]}, ["volumes"]),
        ({"secrets": ["HF_TOKEN"]}, []),
    ],
)
def test_what_a_launch_could_not_repeat_is_named(part: dict[str, Any], missing: list[str]) -> None:
    """A retry without it would be another job."""
    request = read_request(JOB_ADAPTER.validate_python(DESCRIPTION | part))

    assert request.missing == missing
    assert request.has_unknown_secrets == ("secrets" not in part)
