"""A Hub whose jobs run by themselves: listed once as running, with a log, and then completed."""

import json
import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.bench.scenarios.simulated_hub import make_job
from tests.support.http_server import serve_app

_TIMESTAMP: Final = "2026-01-01T00:00:00.000Z"


class FinishingHub:
    """Knows every token; a job is over once a listing has shown that it runs."""

    def __init__(self, log_lines: int) -> None:
        self._jobs: dict[str, dict[str, dict[str, Any]]] = {}
        """By namespace and id, the jobs that are not over."""
        self._finished: dict[str, dict[str, Any]] = {}
        self._created = 0
        lines = make_log(log_lines)
        self._log = "".join(
            f"data: {json.dumps({'data': line, 'timestamp': _TIMESTAMP})}\n\n" for line in lines
        )
        self.requests: dict[str, int] = {"create": 0, "list": 0, "inspect": 0, "log": 0}

    async def create_job(self, request: Request) -> Response:
        """Answer a create request."""
        self.requests["create"] += 1
        namespace = request.path_params["namespace"]
        self._created += 1
        job = make_job(namespace, self._created, "SCHEDULING")
        job["id"] = f"{self._created:024x}"
        job["labels"] = (await request.json())["labels"]
        self._jobs.setdefault(namespace, {})[job["id"]] = job
        return JSONResponse(job)

    async def list_jobs(self, request: Request) -> Response:
        """List the jobs that are not over; those that were listed before are."""
        self.requests["list"] += 1
        active = self._jobs.get(request.path_params["namespace"], {})
        for job_id, job in list(active.items()):
            if job["status"]["stage"] == "RUNNING":
                job["status"] = {**job["status"], "stage": "COMPLETED"}
                job["finishedAt"] = job["startedAt"]
                self._finished[job_id] = active.pop(job_id)
            else:
                job["status"] = {**job["status"], "stage": "RUNNING"}
                job["startedAt"] = job["createdAt"]
        return JSONResponse(list(active.values()))

    async def inspect_job(self, request: Request) -> Response:
        """Show one job."""
        self.requests["inspect"] += 1
        namespace, job_id = request.path_params["namespace"], request.path_params["job_id"]
        return JSONResponse(self._finished.get(job_id) or self._jobs[namespace][job_id])

    async def read_log(self, _: Request) -> Response:
        """Send the whole log, which is the same of all jobs."""
        self.requests["log"] += 1
        return Response(self._log, media_type="text/event-stream")


def make_log(count: int) -> list[str]:
    """Make the lines of a program that trains: the same words, and other numbers."""
    numbers = random.Random(1)  # noqa: S311  # no secret
    return [
        f"2026-01-01 00:{step // 60:02}:{step % 60:02} INFO train: step {step}/{count} "
        f"loss {numbers.random():.4f} grad_norm {numbers.uniform(0, 9):.3f} "
        f"lr {numbers.random() * 1e-4:.3e} {numbers.uniform(9, 15):.2f} samples/s"
        for step in range(count)
    ]


@contextmanager
def run_finishing_hub(log_lines: int) -> Generator[tuple[FinishingHub, str]]:
    """Run such a Hub for the length of a block; yield it and its URL."""
    hub = FinishingHub(log_lines)
    jobs = "/api/jobs/{namespace}"
    routes = [
        Route(jobs, hub.create_job, methods=["POST"]),
        Route(jobs, hub.list_jobs, methods=["GET"]),
        Route(f"{jobs}/{{job_id}}", hub.inspect_job, methods=["GET"]),
        Route(f"{jobs}/{{job_id}}/logs", hub.read_log, methods=["GET"]),
    ]
    with serve_app(Starlette(routes=routes)) as url:
        yield hub, url
