"""What does the service know of each kind of work?

An entry for each kind we ship. A kind that has none is a call whose request is kept and shown as it
is; see `docs/executors.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobKind
from schema.specs.base import OpenSpec, Spec
from schema.specs.batch import BatchSpec
from schema.specs.hub_job import LONGEST_JOB, HubJobSpec
from schema.specs.inference import LONGEST_CALL, InferenceSpec
from schema.specs.space import SpaceCallSpec
from service.auth.caller import Scope


@dataclass(frozen=True, slots=True)
class KindOfWork:
    """What is asked for, and how it is spoken of."""

    scope: Scope = Scope.INFERENCE
    """What a token needs to begin a job of this kind, and to stop one."""
    shape: type[Spec] = OpenSpec
    longest: timedelta = LONGEST_CALL
    overrides: tuple[str, ...] = ()
    """What of its request a retry may give anew."""
    work: tuple[str, ...] = ()
    """The arguments that say what is done."""
    other: tuple[str, tuple[str, ...]] | None = None
    """What to show where anything else than one value would do."""
    running: str = "It is under way."
    """May name parts of the request in braces; so may `succeeded`."""
    succeeded: str = "Succeeded."
    counted: bool = False
    """Whether how far it came still matters once it is over."""
    is_call: bool = True
    """Whether nothing exists upstream that could be listed, watched or killed."""


_OF: Final[Mapping[str, KindOfWork]] = {
    JobKind.HUB_JOB: KindOfWork(
        scope=Scope.JOBS,
        shape=HubJobSpec,
        longest=LONGEST_JOB,
        overrides=(
            *("timeout", "flavor", "command", "image", "env", "script", "script_args"),
            *("dependencies", "python", "volumes", "attempts", "expose", "ssh"),
            *("resource_group_id", "outputs"),
        ),
        work=("command", "image"),
        other=("flavor", ("a10g-large", "a100-large")),
        succeeded="Succeeded: the command exited with code 0.",
        is_call=False,
    ),
    JobKind.INFERENCE: KindOfWork(
        shape=InferenceSpec,
        overrides=("timeout", "task", "model", "inputs", "parameters", "provider"),
        work=("model", "inputs"),
        other=("model", ("meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen3-32B")),
        running="The call to {model} is under way.",
        succeeded="Succeeded: {model} has answered.",
    ),
    JobKind.SPACE_CALL: KindOfWork(
        shape=SpaceCallSpec,
        overrides=("timeout", "space", "api_name", "arguments"),
        work=("arguments", "api_name"),
        running="The call of the Space {space} is under way.",
        succeeded="Succeeded: the Space {space} has answered.",
    ),
    JobKind.BATCH: KindOfWork(
        shape=BatchSpec,
        overrides=(
            *("timeout", "model", "parameters", "provider", "bill_to"),
            *("concurrency", "on_unknown", "max_tries"),
        ),
        work=("model", "items"),
        other=("model", ("meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen3-32B")),
        running="Its items are being sent to {model}.",
        succeeded="Succeeded: {model} was asked for each item.",
        counted=True,
    ),
}
_ANY: Final = KindOfWork()


def known(kind: str) -> KindOfWork:
    """Return what is known of a kind."""
    return _OF.get(kind, _ANY)


def say(sentence: str, status: JobStatus) -> str:
    """Fill the parts of a job's request into a sentence about its kind."""
    return sentence.format_map(_Parts(status.spec))


class _Parts(dict[str, Any]):
    """A request; what it lacks is left out of a sentence."""

    def __missing__(self, name: str) -> str:
        return "it"
