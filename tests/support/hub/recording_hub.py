"""A Hub that creates whatever it is asked for."""

from typing import Any

from schema.hub.job import JOB_ADAPTER, RemoteJob


class RecordingHub:
    """A Hub that creates whatever it is asked for, and remembers it."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def create_job(self, _: str, body: dict[str, Any], *__: Any, **___: Any) -> RemoteJob:
        self.bodies.append(body)
        return JOB_ADAPTER.validate_python({"id": "r1"})
