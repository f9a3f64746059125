"""What every tool that begins work takes: its arguments, checked and described once."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field

from schema.common.name_matching import normalize_name
from schema.jobs.dependencies import DependencyCondition
from schema.specs.hub_job import parse_job_timeout
from schema.specs.inference import parse_call_timeout


def as_list(value: object) -> object:
    """Read one thing as a list of it."""
    return [value] if isinstance(value, str) else value


def normalize_choice(value: object) -> object:
    """Read a name the way ours are written, whatever its case and hyphens."""
    return normalize_name(value).replace("-", "_") if isinstance(value, str) else value


def _duration_validator(parse: Callable[[object], timedelta]) -> BeforeValidator:
    """Check a duration with all the other arguments, so that everything wrong is told at once."""

    def check(written: object) -> object:
        parse(written)
        return written

    return BeforeValidator(check)


DurationInput = Annotated[int | float | str, Field(description='Seconds, or "90m", "1h30m".')]
JobTimeout = Annotated[DurationInput, _duration_validator(parse_job_timeout)]
CallTimeout = Annotated[DurationInput, _duration_validator(parse_call_timeout)]
DisplayName = Annotated[str | None, Field(min_length=1, max_length=200, description="For people.")]
IdempotencyKey = Annotated[
    str | None,
    Field(
        min_length=1, max_length=200, description="Repeated with it, a call finds the job it made."
    ),
]
Namespace = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=100,
        description="An organisation that runs it and pays; else your own.",
    ),
]
Secrets = Annotated[
    dict[str, Annotated[str, Field(min_length=1, max_length=10_000)]] | None,
    Field(description='Like env, sealed: nobody reads them back. "$HF_TOKEN" is your token.'),
]
PassToken = Annotated[
    bool,
    Field(description="Hand your token over as HF_TOKEN: that code then acts as you."),
]
MaxCostUsd = Annotated[
    float | None, Field(gt=0, le=1e9, description="Refuse it if the worst case is more.")
]
DryRun = Annotated[bool, Field(description="Only check it, and say what it can cost.")]
ParentHandles = Annotated[
    list[str] | None,
    BeforeValidator(as_list),
    Field(max_length=20, description="Jobs that have to end first, and well unless on says so."),
]
AfterCondition = Annotated[DependencyCondition, BeforeValidator(normalize_choice)]
LaunchWorkspaceId = Annotated[
    str | None,
    Field(description="A handle, ws_…; it also fills in namespace, flavor, timeout and labels."),
]
