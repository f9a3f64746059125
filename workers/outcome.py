"""What an executor can say about an attempt, and nothing else."""

from dataclasses import dataclass, replace
from datetime import timedelta

from schema.artifacts.files import NewFile
from schema.jobs.run_end import Ending
from schema.jobs.run_tables import Addresses
from schema.jobs.tables import Reason
from workers.redaction import Redactor


@dataclass(frozen=True, slots=True)
class Bound:
    """Something exists upstream now, and this is its id."""

    remote_id: str
    stage: str | None
    addresses: Addresses | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The call is over, one way or the other."""

    ending: Ending
    files: tuple[NewFile, ...] = ()
    """What it leaves behind beside its result."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Provably nothing was created, and nothing ever would be."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Later:
    """Provably nothing was created; another try may succeed."""

    message: str
    retry_after: timedelta | None = None
    """How long the Hub asked this subject to wait."""


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """Provably nothing was created: the Hub no longer takes the subject's token."""

    message: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """The request was sent and its answer was lost, or cannot be read."""

    why: str


Outcome = Bound | Answered | Refused | Later | TokenRefused | Unclear


def without_secrets(outcome: Outcome, redactor: Redactor) -> Outcome:
    """Return an outcome that repeats no secret, whatever the Hub said to it."""
    match outcome:
        case Refused() | Later() | TokenRefused():
            return replace(outcome, message=redactor.text(outcome.message))
        case Unclear():
            return replace(outcome, why=redactor.text(outcome.why))
        case Answered(ending) if ending.message is not None:
            said = replace(ending, message=redactor.text(ending.message))
            return replace(outcome, ending=said)
        case Bound() | Answered():
            return outcome
