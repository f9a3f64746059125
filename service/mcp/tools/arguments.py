"""What every tool that begins work takes: its arguments, checked and described once."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field

from schema.common.name_matching import plain
from schema.jobs.dependencies import On
from schema.specs.hub_job import read_job_timeout
from schema.specs.inference import read_call_timeout


def listed(given: object) -> object:
    """Read one thing as a list of it."""
    return [given] if isinstance(given, str) else given


def as_written(given: object) -> object:
    """Read a name the way ours are written, whatever its case and hyphens."""
    return plain(given).replace("-", "_") if isinstance(given, str) else given


def _readable(read: Callable[[object], timedelta]) -> BeforeValidator:
    """Check a duration with all the other arguments, so that everything wrong is told at once."""

    def check(written: object) -> object:
        read(written)
        return written

    return BeforeValidator(check)


Written = Annotated[int | float | str, Field(description='Seconds, or "90m", "1h30m".')]
JobTimeout = Annotated[Written, _readable(read_job_timeout)]
CallTimeout = Annotated[Written, _readable(read_call_timeout)]
Name = Annotated[str | None, Field(min_length=1, max_length=200, description="For people.")]
Key = Annotated[
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
MostCost = Annotated[
    float | None, Field(gt=0, le=1e9, description="Refuse it if the worst case is more.")
]
DryRun = Annotated[bool, Field(description="Only check it, and say what it can cost.")]
After = Annotated[
    list[str] | None,
    BeforeValidator(listed),
    Field(max_length=20, description="Jobs that have to end first, and well unless on says so."),
]
AfterOn = Annotated[On, BeforeValidator(as_written)]
Group = Annotated[
    str | None,
    Field(description="A handle, ws_…; it also fills in namespace, flavor, timeout and labels."),
]
