"""The table of job kinds: scope, limits, retry arguments and texts of each.

Each kind that we ship has an entry. A kind without an entry is treated as a call whose request is
stored and shown unchanged; see `docs/executors.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobKind
from schema.specs.base import OpenSpec, Spec
from schema.specs.batch import BatchSpec
from schema.specs.hub_job import MAX_JOB_TIMEOUT, HubJobSpec
from schema.specs.inference import MAX_CALL_TIMEOUT, InferenceSpec
from schema.specs.space import SpaceCallSpec
from service.auth.caller import Scope
from service.runtime.toolsets import CURRENT_SELECTION, ToolNotChosen


@dataclass(frozen=True, slots=True)
class KindDescription:
    """What a kind of job needs, and the texts about its jobs."""

    plural: str = "jobs of this kind"
    """Several of its jobs, in a sentence."""
    launch_tool: str = ""
    """The tool that launches it; empty: one that is in no toolset."""
    scope: Scope = Scope.INFERENCE
    """The scope that a token needs to start or stop a job of this kind."""
    spec_type: type[Spec] = OpenSpec
    max_timeout: timedelta = MAX_CALL_TIMEOUT
    retry_overrides: tuple[str, ...] = ()
    """The arguments of its request that a retry may override."""
    work_arguments: tuple[str, ...] = ()
    """The arguments that say what the job does."""
    alternatives: tuple[str, tuple[str, ...]] | None = None
    """An argument and other values for it, to suggest when its value does not work."""
    running_text: str = "It is under way."
    """May name fields of the request in braces; so may `succeeded_text`."""
    succeeded_text: str = "Succeeded."
    shows_final_progress: bool = False
    """Whether its progress is still shown when it has ended."""
    is_call: bool = True
    """Whether it is one call, with no upstream job to list, watch or kill."""
    resumes: bool = False
    """Whether it goes on where it stopped when it is queued again."""


_KINDS: Final[Mapping[str, KindDescription]] = {
    JobKind.HUB_JOB: KindDescription(
        plural="Hugging Face Jobs",
        launch_tool="launch_job",
        scope=Scope.JOBS,
        spec_type=HubJobSpec,
        max_timeout=MAX_JOB_TIMEOUT,
        retry_overrides=(
            *("timeout", "flavor", "command", "image", "env", "script", "script_args"),
            *("dependencies", "python", "volumes", "attempts", "expose", "ssh"),
            *("resource_group_id", "outputs"),
        ),
        work_arguments=("command", "image"),
        alternatives=("flavor", ("a10g-large", "a100-large")),
        succeeded_text="Succeeded: the command exited with code 0.",
        is_call=False,
    ),
    JobKind.INFERENCE: KindDescription(
        plural="inference calls",
        launch_tool="launch_inference",
        spec_type=InferenceSpec,
        retry_overrides=("timeout", "task", "model", "inputs", "parameters", "provider"),
        work_arguments=("model", "inputs"),
        alternatives=("model", ("meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen3-32B")),
        running_text="The call to {model} is under way.",
        succeeded_text="Succeeded: {model} has answered.",
    ),
    JobKind.SPACE_CALL: KindDescription(
        plural="Space calls",
        launch_tool="launch_space_call",
        spec_type=SpaceCallSpec,
        retry_overrides=("timeout", "space", "api_name", "arguments"),
        work_arguments=("arguments", "api_name"),
        running_text="The call of the Space {space} is under way.",
        succeeded_text="Succeeded: the Space {space} has answered.",
    ),
    JobKind.BATCH: KindDescription(
        plural="batches",
        launch_tool="launch_inference",
        spec_type=BatchSpec,
        retry_overrides=(
            *("timeout", "model", "parameters", "provider", "bill_to"),
            *("concurrency", "on_unknown", "max_tries"),
        ),
        work_arguments=("model", "items"),
        alternatives=("model", ("meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen3-32B")),
        running_text="Its items are being sent to {model}.",
        succeeded_text="Succeeded: {model} was asked for each item.",
        shows_final_progress=True,
        resumes=True,
    ),
}
_UNKNOWN_KIND: Final = KindDescription()


def describe_kind(kind: str) -> KindDescription:
    """Return the description of a kind; a default for a kind that has no entry."""
    return _KINDS.get(kind, _UNKNOWN_KIND)


def expect_launch_tool(kind: str) -> None:
    """Check that the connection has the tool that launches a kind, before it is launched otherwise.

    Raises:
        ToolNotChosen: it has not.
    """
    tool = describe_kind(kind).launch_tool
    if not CURRENT_SELECTION.get().includes(tool):
        raise ToolNotChosen(tool)


def fill_sentence(sentence: str, status: JobStatus) -> str:
    """Fill the fields of a job's request into a sentence about its kind."""
    return sentence.format_map(_SpecFields(status.spec))


class _SpecFields(dict[str, Any]):
    """The fields of a request; a missing one reads "it" in a sentence."""

    def __missing__(self, name: str) -> str:
        return "it"
