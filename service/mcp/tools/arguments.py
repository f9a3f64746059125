"""Types of arguments that several tools share, each checked and described once."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, StringConstraints

from schema.common.errors import Invalid
from schema.common.name_matching import normalize_name
from schema.jobs.dependencies import DependencyCondition
from schema.specs.hub_job import parse_job_timeout, parse_string_mapping
from schema.specs.inference import parse_call_timeout
from service.mcp.confirmation import ConfirmationToken
from service.mcp.tool import ToolArguments


def to_list(value: object) -> object:
    """Read a single text as a list of one."""
    return [value] if isinstance(value, str) else value


def _read_empty_as_none(value: object) -> object:
    return None if value in ("", [], {}) else value


EMPTY_IS_NONE: Final = BeforeValidator(_read_empty_as_none)
"""For a filter: a client that fills in every argument writes an empty one for no filter.

A limit of size stands before it: after it, pydantic 2.14 would take the size of None.
"""


def normalize_choice(value: object) -> object:
    """Write a name in lower case with underscores, whatever its case and hyphens."""
    return normalize_name(value).replace("-", "_") if isinstance(value, str) else value


def one_target_error(*names: str) -> Invalid:
    """Build the refusal of a call that names two targets, or none."""
    return Invalid(f"Give either {' or '.join(names)}, and only one of them.")


def _duration_validator(parse: Callable[[object], timedelta]) -> BeforeValidator:
    """Check a duration with the other arguments, so that one refusal names all that is wrong."""

    def check(text: object) -> object:
        parse(text)
        return text

    return BeforeValidator(check)


Cursor = Annotated[str | None, EMPTY_IS_NONE]
JobId = Annotated[str, Field(description="A handle, job_…")]
MAX_JOB_IDS: Final = 50
JobIds = Annotated[
    list[Annotated[str, StringConstraints(strip_whitespace=True)]],
    BeforeValidator(to_list, json_schema_input_type=list[str] | str),
    Field(min_length=1, max_length=MAX_JOB_IDS, description="One handle, or up to 50."),
]
DurationInput = Annotated[str | int | float, Field(description='Seconds, or "1h30m".')]
JobTimeout = Annotated[DurationInput, _duration_validator(parse_job_timeout)]
CallTimeout = Annotated[DurationInput, _duration_validator(parse_call_timeout)]
DisplayName = Annotated[str | None, Field(min_length=1, max_length=200, description="For people.")]
IdempotencyKey = Annotated[
    str | None,
    Field(min_length=1, max_length=200, description="A call repeated with it finds its job."),
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
    BeforeValidator(parse_string_mapping),
    Field(description='Like env, sealed. "$HF_TOKEN" is your token.'),
]
PassToken = Annotated[
    bool,
    Field(description="Your token as HF_TOKEN: that code then acts as you."),
]
MaxCostUsd = Annotated[
    float | None, Field(gt=0, le=1e9, description="Refuse it if the worst case is more.")
]
DryRun = Annotated[bool, Field(description="Only check it, and say its cost.")]
ParentHandles = Annotated[
    list[str] | None,
    Field(max_length=20, description="Jobs that have to end first, well unless on says so."),
    BeforeValidator(to_list),
]
AfterCondition = Annotated[DependencyCondition, BeforeValidator(normalize_choice)]
OpenJobsOf = Annotated[
    str | None, EMPTY_IS_NONE, Field(description="Instead of it, ws_…: all its open jobs.")
]
LaunchWorkspaceId = Annotated[
    str | None,
    Field(description="ws_…; it also fills in namespace, flavor, timeout and labels."),
]


WebhookUrlInput = Annotated[
    str | None,
    Field(min_length=1, max_length=2000, description="An https URL that is told of the end."),
]


class SingleLaunchArguments(ToolArguments):
    """Arguments of a launch that are about the one job that this call makes."""

    idempotency_key: IdempotencyKey = None
    after: ParentHandles = None
    on: AfterCondition = DependencyCondition.SUCCESS
    webhook_url: WebhookUrlInput = None
    dry_run: DryRun = False
    confirm: ConfirmationToken = None
