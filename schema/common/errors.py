"""The expected errors: a tree, whose class names are the error codes that clients see.

    HoldfastError
    ├── NotFound              it does not exist, or the caller may not see it
    ├── Denied                the caller may see it, but not do this to it
    ├── Conflict              it exists, but its state does not allow this
    │   ├── IdempotencyConflict
    │   ├── BudgetExceeded     its worst case is more than may be spent
    │   ├── LimitReached       the caller has as many open jobs as allowed
    │   ├── NameTaken          the caller has another workspace of that name
    │   ├── NotAgreedTo        a person has to approve the cost, and nobody can be asked
    │   ├── TooManySchedules   the caller has as many schedules as allowed
    │   ├── TooManyUploads     the caller has no room for one more upload
    │   ├── TooManyWaits       as many calls of the caller wait as allowed
    │   └── WorkspaceArchived  the workspace takes no new jobs
    ├── Invalid               the request can never succeed as written
    ├── Unauthenticated       the credential is missing, wrong, expired or revoked
    ├── RateLimited           too many calls; the same request will succeed later
    │   ├── AnonymousRateLimited  from an address, by callers who have not signed in
    │   └── SignInRateLimited     from an address, of the pages and endpoints of a sign-in
    └── Unavailable           a dependency is down; the same request may succeed later
        ├── RoleRefused       until the operator has granted a role
        └── InDoubt           and nobody knows whether it was carried out

So renaming a class is a breaking change. Whatever is not a `HoldfastError` is a bug and is reported
as one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from schema.common.durations import ceil_to_seconds, format_duration
from schema.common.money import format_usd, to_usd
from schema.common.text import format_count, format_utc

CredentialProblem = Literal[
    "invalid_token", "token_expired", "not_yet_valid", "invalid_audience", "invalid_issuer"
]
"""What is wrong with a credential; `docs/auth.md` has a remedy for each."""


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """A limit that a call has met, for programs; the sentence of the error says the same."""

    unit: str
    """What is counted: `calls`, `open jobs`, `schedules`, `download links`, `waiting calls`,
    `uploads`, `upload bytes` or `USD`."""
    limit: float
    used: float
    resets_at: datetime | None = None
    """From when there is room again by itself; None: somebody has to make room."""

    def to_fields(self) -> dict[str, str | float | None]:
        """Return the fields as JSON has them, the moment in ISO 8601."""
        resets_at = None if self.resets_at is None else self.resets_at.isoformat(timespec="seconds")
        return {
            "unit": self.unit,
            "limit": self.limit,
            "used": self.used,
            "resets_at": resets_at,
        }


class HoldfastError(Exception):
    """Base of every expected error; its text may be shown to the caller."""

    limit_usage: LimitUsage | None = None
    """The limit that was met, if the error is about one."""

    def to_dict(self) -> dict[str, Any]:
        """Return what programs are told beside the sentence: the code, and the limit met."""
        return {"code": self.code} | (self.limit_usage.to_fields() if self.limit_usage else {})

    @property
    def code(self) -> str:
        """The stable name that clients may match on."""
        return type(self).__name__


class NotFound(HoldfastError):
    """The entity does not exist, or the caller may not see it."""

    def __init__(self, kind: str, handle: str) -> None:
        self.kind = kind
        super().__init__(f"There is no {kind} {handle}.")


class Denied(HoldfastError):
    """The caller may see the entity, but not do this to it."""


class Conflict(HoldfastError):
    """The entity exists, but its state does not allow this."""


class IdempotencyConflict(Conflict):
    """The idempotency key already belongs to a different request."""

    def __init__(self, key: str, handle: str, fields: list[str]) -> None:
        self.fields = fields
        super().__init__(
            f"idempotency_key {key!r} already made {handle} from a request that differs in "
            f"{', '.join(fields)}. Nothing was launched. Repeat the first request unchanged to get "
            f"its handle, or use a new key for a new job."
        )


class LimitReached(Conflict):
    """The subject has as many open jobs as it may have at a time."""

    def __init__(self, *, open_jobs: int, max_open_jobs: int) -> None:
        self.limit_usage = LimitUsage("open jobs", max_open_jobs, open_jobs)
        super().__init__(
            f"You have {format_count(open_jobs, 'open job')} and may have {max_open_jobs} at a "
            f"time, so nothing was launched. Wait until one has finished or cancel one with "
            f"cancel_job, then repeat the same call; "
            f'list_jobs(state=["queued", "launching", "running"]) shows them.'
        )


class TooManySchedules(Conflict):
    """The subject has as many schedules as it may have."""

    def __init__(self, max_schedules: int) -> None:
        self.limit_usage = LimitUsage("schedules", max_schedules, max_schedules)
        schedules = format_count(max_schedules, "schedule")
        super().__init__(
            f"You have {schedules} and may not have more, so this one was not "
            f"created. Delete one with delete_schedule; list_schedules shows them."
        )


class NotAgreedTo(Conflict):
    """A firing could cost more than its workspace allows without the approval of a person."""

    def __init__(self, *, ceiling_micro_usd: int | None, threshold_micro_usd: int) -> None:
        costs = (
            "has no known price"
            if ceiling_micro_usd is None
            else f"may cost {format_usd(ceiling_micro_usd, is_bound=True)}"
        )
        super().__init__(
            f"This firing {costs}. Nobody approved that when the schedule was created, and above "
            f"{format_usd(threshold_micro_usd)} a person is asked first, so nothing was launched. "
            f"Delete the schedule and create it again: then a person is asked."
        )


class TooManyUploads(Conflict):
    """The subject has no room for one more upload, or for so many bytes."""

    def __init__(self, unit: Literal["uploads", "upload bytes"], *, limit: int, used: int) -> None:
        self.limit_usage = LimitUsage(unit, limit, used)
        super().__init__(
            f"You have {used:,} of {limit:,} {unit}, so there is no room for this one, and nothing "
            f"was stored. Uploads are deleted some time after they were sent; until then, name a "
            f"file of the Hub (hf://…) or an https:// URL instead."
        )


class TooManyWaits(Conflict):
    """As many calls of the subject wait as may wait at a time."""

    def __init__(self, max_waits: int) -> None:
        self.limit_usage = LimitUsage("waiting calls", max_waits, max_waits)
        super().__init__(
            f"You have {format_count(max_waits, 'waiting call')} in all your clients together, and "
            f"may not have more. Wait for several jobs in one call (job_ids takes up to 50 "
            f'handles, mode="any"), let another wait end, or call job_status, which answers at '
            "once."
        )


class TooManyLinks(Conflict):
    """The subject has as many links to exports as it may have at a time."""

    def __init__(self, live: int, max_live: int, resets_at: datetime) -> None:
        self.limit_usage = LimitUsage("download links", max_live, live, resets_at)
        super().__init__(
            f"You have {format_count(live, 'download link')} and may have {max_live} at a time, so "
            f"none was made. The first of them expires at {format_utc(resets_at)}; whoami shows "
            f"them."
        )


class BudgetExceeded(Conflict):
    """The worst case of a launch is more than its workspace or its subject's month may spend."""

    def __init__(
        self,
        scope: str,
        *,
        budget_micro_usd: int,
        spent_micro_usd: int,
        held_micro_usd: int,
        ceiling_micro_usd: int | None,
        max_timeout: timedelta,
        resets_at: datetime | None = None,
    ) -> None:
        self.scope = scope
        self.limit_usage = LimitUsage(
            "USD", to_usd(budget_micro_usd), to_usd(spent_micro_usd + held_micro_usd), resets_at
        )
        limit = f"{_SCOPE_SUBJECTS[scope]} is {format_usd(budget_micro_usd)}"
        used = (
            f"{format_usd(spent_micro_usd)} is spent and "
            f"{format_usd(held_micro_usd, is_bound=True)} is reserved for jobs that have not "
            "finished"
        )
        if ceiling_micro_usd is None:
            need = "The cost of this is not known, so nothing can be reserved for it."
            remedy = f"Launch something that has a price, or {_SCOPE_REMEDIES[scope]}."
        else:
            need = f"At worst this costs {format_usd(ceiling_micro_usd, is_bound=True)}."
            shorter = f' or timeout="{format_duration(max_timeout)}"' if max_timeout else ""
            remedy = (
                "Put it to the person: they can cancel jobs that are no longer needed, choose a "
                f"cheaper flavor{shorter}, or wait."
            )
        if resets_at is not None:
            remedy += f" The next month begins at {format_utc(resets_at)}."
        super().__init__(f"{limit}: {used}. {need} Nothing was launched. {remedy}")


_SCOPE_SUBJECTS = {
    "workspace": "The budget of this workspace",
    "month": "Your budget for jobs of this month (UTC)",
}
_SCOPE_REMEDIES = {
    "workspace": "launch it outside of this workspace",
    "month": "ask the operator of Holdfast",
}


class NameTaken(Conflict):
    """The subject has another workspace of that name."""

    def __init__(self, name: str, handle: str) -> None:
        super().__init__(
            f"You have a workspace named {name!r} already: {handle}. Nothing was changed. Choose "
            f"another name, or rename that one first."
        )


class WorkspaceArchived(Conflict):
    """The workspace is archived and takes no new jobs."""

    def __init__(self, handle: str) -> None:
        super().__init__(
            f"The workspace {handle} is archived and takes no new jobs, so nothing was launched. "
            f'Restore it with update_workspace(workspace_id="{handle}", archived=false), or '
            f"launch into another; list_workspaces shows yours."
        )


@dataclass(frozen=True, slots=True)
class Correction:
    """What to write in the place of one mistake."""

    path: tuple[int | str, ...]
    """The argument, and the place inside of it."""
    value: Any = None
    """The right value, unless it is the name that is wrong."""
    name: str = ""
    """The right name, where the name is wrong."""


class CorrectableError(ValueError):
    """A wrong value whose right form is known."""

    def __init__(self, message: str, value: Any) -> None:
        """Keep the right value for the correction of the whole call."""
        self.value = value
        super().__init__(message)


class Invalid(HoldfastError):
    """The request can never succeed as written."""

    def __init__(self, message: str, corrections: Iterable[Correction] = ()) -> None:
        """Say what is wrong.

        Args:
            message: a sentence for each mistake.
            corrections: what to write instead; none unless it is known for each mistake.
        """
        self.corrections = tuple(corrections)
        super().__init__(message)


class Unauthenticated(HoldfastError):
    """The credential is missing, wrong, expired or revoked."""

    def __init__(self, message: str, *, problem: CredentialProblem = "invalid_token") -> None:
        self.problem = problem
        super().__init__(message)


class RateLimited(HoldfastError):
    """The subject calls too often; the same request will succeed later."""

    def __init__(self, *, limit: int, window: timedelta, retry_after: timedelta) -> None:
        self.limit = limit
        self.window = window
        self.retry_after = retry_after
        resets_at = datetime.now(UTC) + timedelta(seconds=ceil_to_seconds(retry_after))
        self.limit_usage = LimitUsage("calls", limit, limit, resets_at)
        super().__init__(
            f"You may make {format_count(limit, 'call')} in "
            f"{format_count(ceil_to_seconds(window), 'second')} with all your clients together, "
            f"and {limit:,} are used, so nothing was done. Try the same call again in "
            f"{self._pause}."
        )

    @property
    def _pause(self) -> str:
        assert self.limit_usage is not None  # noqa: S101  # set before the sentence is built
        assert self.limit_usage.resets_at is not None  # noqa: S101
        seconds = format_count(ceil_to_seconds(self.retry_after), "second")
        return f"{seconds}, at {format_utc(self.limit_usage.resets_at)}"

    @property
    def code(self) -> str:
        """One code for all limits of calls: a client does the same about each."""
        return RateLimited.__name__


class AnonymousRateLimited(RateLimited):
    """Callers at one address who have not signed in call too often."""

    def __init__(self, *, limit: int, window: timedelta, retry_after: timedelta) -> None:
        super().__init__(limit=limit, window=window, retry_after=retry_after)
        HoldfastError.__init__(
            self,
            f"Callers who have not signed in may make {format_count(limit, 'call')} in "
            f"{format_count(ceil_to_seconds(window), 'second')} from one address, and "
            f"{limit:,} are used. Sign in, or try again in {self._pause}.",
        )


class SignInRateLimited(RateLimited):
    """The endpoints of a sign-in are called too often from one address, or for one sign-in."""

    def __init__(
        self,
        *,
        limit: int,
        window: timedelta,
        retry_after: timedelta,
        counted: str = "Sign-ins from one address",
    ) -> None:
        """Say what was counted: the subject of the sentence."""
        super().__init__(limit=limit, window=window, retry_after=retry_after)
        HoldfastError.__init__(
            self,
            f"{counted} may make {format_count(limit, 'request')} in "
            f"{format_count(ceil_to_seconds(window), 'second')}, and {limit:,} are used. Try again "
            f"in {self._pause}.",
        )


class Unavailable(HoldfastError):
    """A dependency is down; the same request may succeed later."""

    def __init__(
        self,
        dependency: str,
        *,
        effect: str = "",
        first_step: str = "",
        retry_after: timedelta = timedelta(seconds=2),
    ) -> None:
        self.retry_after = retry_after
        consequence = f", so {effect}" if effect else ""
        advice = f"{first_step}, then try" if first_step else "Try"
        super().__init__(
            f"{dependency} cannot be reached right now{consequence}. {advice} the same call "
            f"again in {format_count(max(1, round(retry_after.total_seconds())), 'second')}."
        )


class RoleRefused(Unavailable):
    """The database does not let the login of this process use the role that it needs."""

    def __init__(self, role: str, finding: str, remedy: str = "") -> None:
        self.retry_after = timedelta(seconds=30)
        remedy = remedy or (
            f"run `holdfast migrate`, and to grant {role} to the login of this process"
        )
        HoldfastError.__init__(
            self,
            f"The database does not let this process use the role {role} ({finding}), so "
            f"nothing was done. Its operator has to {remedy}.",
        )

    @property
    def code(self) -> str:
        """The code of any other outage: a client does the same about it."""
        return Unavailable.__name__


class InDoubt(Unavailable):
    """A commit was sent and its answer was lost: it may have been carried out."""

    @property
    def code(self) -> str:
        """The code of any other outage: a client does the same about it."""
        return Unavailable.__name__
