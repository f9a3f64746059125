"""The golden failures: each gets its reason, the evidence for it, and what to do.

The words in `failures.toml` are those of the Hub and of programs. They go the whole way: through
what the workers make of them, and what the service says of that.
"""

import ast
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import TypeAdapter

from schema.artifacts import log_store
from schema.artifacts.log_store import NumberedLine
from schema.db.database import Database
from schema.hub.client import HubRejected
from schema.hub.job import JOB_ADAPTER
from schema.jobs.queries import JobStatus
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState, Reason
from service.jobs import retries
from service.views import job_summary
from service.views.diagnosis import matching
from service.views.diagnosis.diagnose import Diagnosis, diagnose
from service.views.job_kinds import describe_kind
from service.views.jobs import JobView
from tests.support.factories import JobFactory
from tests.support.jobs.job_states import RunDriver
from tests.support.jobs.job_statuses import HUB_URL, make_status
from tests.support.subjects import ADA_ID
from workers.attempts.error_outcomes import outcome_from_error
from workers.executor import Rejected
from workers.hub.job_ending import derive_run_result


@dataclass(frozen=True)
class FailureCase:
    """One failure, and what has to be made of it."""

    name: str
    source: str
    reason: Reason
    why: str
    evidence: list[str]
    remedy: list[str]
    kind: JobKind = JobKind.HUB_JOB
    status: int | None = None
    stage: str | None = None
    message: str | None = None
    cancel_reason: str | None = None
    exit_code: int | None = None
    flavor: str = "a10g-large"
    command: list[str] = field(default_factory=lambda: ["python", "train.py"])
    log: str = ""
    seen_here: bool = False
    """Whether it is we who say so, of a job that the Hub has no fault to find with."""

    @property
    def lines(self) -> list[NumberedLine]:
        """The log, numbered."""
        written = self.log.strip("\n").split("\n") if self.log else []
        return [NumberedLine(number, text) for number, text in enumerate(written)]

    def worker_result(self) -> RunResult:
        """What the workers make of it."""
        if self.seen_here:
            stage = self.stage or ""
            return RunResult(JobState.FAILED, stage, self.reason, self.message, self.exit_code)
        if self.status is not None:
            outcome = outcome_from_error(HubRejected(self.status, self.message or "", None))
            assert isinstance(outcome, Rejected)
            return RunResult(JobState.FAILED, "", outcome.reason, outcome.message)
        status = {"stage": self.stage, "message": self.message, "cancelReason": self.cancel_reason}
        ending = derive_run_result(JOB_ADAPTER.validate_python({"id": "a" * 24, "status": status}))
        assert ending is not None
        return ending

    def read_job(self) -> JobStatus:
        """The job as the service then reads it."""
        ending = self.worker_result()
        spec: dict[str, Any] = {
            "image": "python:3.12",
            "command": self.command,
            "timeout": 1800.0,
            "flavor": self.flavor,
        }
        if self.kind is JobKind.INFERENCE:
            messages = [{"role": "user", "content": "Hi"}]
            spec = {"model": "m/m", "inputs": messages, "timeout": 600.0}
        return make_status(
            kind=self.kind,
            attempt=1,
            state=ending.state,
            reason=ending.reason,
            message=ending.message,
            exit_code=ending.exit_code,
            spec=spec,
        )


GOLDEN_CASES: Final = TypeAdapter(list[FailureCase]).validate_python(
    tomllib.loads((Path(__file__).parent / "failures.toml").read_text())["case"]
)


@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case.name)
def test_each_failure_has_its_reason_its_evidence_and_its_remedy(case: FailureCase) -> None:
    """Who reads only this knows what happened, how that is known, and what to do."""
    failed = case.read_job()
    diagnosis = diagnose(failed, case.lines)

    assert (failed.reason, failed.exit_code) == (case.reason, case.exit_code)
    assert case.why in diagnosis.cause
    for text in case.evidence:
        assert any(text in shown for shown in diagnosis.evidence), diagnosis.evidence
    for text in case.remedy:
        assert text in diagnosis.remedy


@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case.name)
def test_nothing_is_claimed_without_evidence(case: FailureCase) -> None:
    """Either there is something to show for it, or it says that nobody knows."""
    diagnosis = diagnose(case.read_job(), case.lines)

    assert diagnosis.evidence or "not recognised" in diagnosis.cause
    for line in case.lines:
        if f"log line {line.number}" in diagnosis.cause:
            assert f"log line {line.number}: {line.text.strip()}" in diagnosis.evidence


@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case.name)
def test_a_view_tells_all_of_it(case: FailureCase) -> None:
    """In words for a model, in fields for a program, and without a loose end."""
    view = JobView.from_status(case.read_job(), HUB_URL, case.lines)

    assert view.summary.startswith("Failed: ")
    assert case.why in view.summary
    assert view.evidence == diagnose(case.read_job(), case.lines).evidence
    assert not re.search(r"\{\w", view.next_step)
    assert re.search("launch a new job|retry_job", view.next_step)


@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case.name)
def test_a_retry_that_is_written_out_is_taken_as_it_stands(case: FailureCase) -> None:
    """A model that copies it word for word is not refused."""
    failed = case.read_job()
    for written in re.findall(r"retry_job\((.*?)\)", diagnose(failed, case.lines).remedy):
        call = ast.parse(f"f({written})", mode="eval").body
        assert isinstance(call, ast.Call)
        arguments = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
        assert arguments.pop("job_id") == job_summary.job_handle(failed)
        retries.expect_useful_retry(
            failed, retries.plan_retry(failed, arguments.pop("overrides", {}), secrets={})
        )
        assert not arguments


@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case.name)
def test_a_retry_is_told_only_of_what_it_takes(case: FailureCase) -> None:
    """An override of another kind of job would be refused."""
    remedy = diagnose(case.read_job(), case.lines).remedy
    for named in re.findall(r"overriding ([a-z, ]+)\.", remedy):
        assert set(named.split(" or ")) & set(describe_kind(case.kind).retry_overrides), named


def test_secrets_that_a_retry_needs_are_no_part_of_a_call_to_copy() -> None:
    """Nobody here knows them any more."""
    [timed_out] = [case for case in GOLDEN_CASES if case.reason is Reason.TIMED_OUT]
    failed = timed_out.read_job()
    failed = failed.model_copy(update={"spec": failed.spec | {"secrets": ["KEY"]}})

    remedy = diagnose(failed).remedy

    assert "retry_job(" not in remedy
    assert 'overrides={"timeout": "1h"}, and its secrets given again' in remedy


def test_there_are_many_of_them_and_no_two_are_the_same() -> None:
    """The promise is thirty."""
    assert len(GOLDEN_CASES) >= 30
    assert len({case.name for case in GOLDEN_CASES}) == len(GOLDEN_CASES)
    assert {case.reason for case in GOLDEN_CASES} >= set(Reason) - {
        *(Reason.LAUNCH_UNCONFIRMED, Reason.OUTCOME_UNKNOWN, Reason.STUCK_SCHEDULING),
        *(Reason.CANCELLED_UPSTREAM, Reason.HUB_UNAVAILABLE),
        *(Reason.DEPENDENCY_FAILED, Reason.CALL_FAILED),
    }


async def test_postgres_finds_the_same_evidence_in_a_long_log(
    database: Database, make_job: JobFactory
) -> None:
    """What tells is found however much was printed after it, and the reply stays small."""
    noise = [f"cleaning up {number}" for number in range(300)]
    worker = RunDriver(database)
    diagnoses: list[tuple[str, Diagnosis, Diagnosis]] = []

    for case in [each for each in GOLDEN_CASES if each.log]:
        job = await make_job()
        await worker.append_log(
            await worker.start_run(remote_id=case.name), *(li.text for li in case.lines), *noise
        )
        async with database.transaction() as tx:
            read = await log_store.read_excerpts(
                tx, ADA_ID, [job.id], tail_lines=20, pattern=matching.RELEVANT_LINE_PATTERN
            )
        lines = read[job.id]
        assert [line.text for line in lines[-20:]] == noise[-20:]
        assert len(lines) <= 20 + len(case.lines)
        diagnoses.append(
            (case.name, diagnose(case.read_job(), case.lines), diagnose(case.read_job(), lines))
        )

    assert diagnoses
    for name, whole, excerpt in diagnoses:
        assert (excerpt.cause, excerpt.evidence) == (whole.cause, whole.evidence), name


async def test_an_excerpt_is_bounded_whatever_was_printed(
    database: Database, make_job: JobFactory
) -> None:
    """A status is read often; a log that is nothing but errors must not come with it."""
    job = await make_job()
    await RunDriver(database).append_log(
        await RunDriver(database).start_run(), *(f"KeyError: {'x' * 5000}" for _ in range(3000))
    )

    async with database.transaction() as tx:
        read = await log_store.read_excerpts(
            tx, ADA_ID, [job.id], tail_lines=20, pattern=matching.RELEVANT_LINE_PATTERN
        )
        nobodys = await log_store.read_excerpts(
            tx, "nobody", [job.id], tail_lines=20, pattern=matching.RELEVANT_LINE_PATTERN
        )

    lines = read[job.id]
    assert [line.number for line in lines] == list(range(2800, 3000))
    assert {len(line.text) for line in lines} == {999}
    assert nobodys == {job.id: []}


@pytest.mark.parametrize("printed", [f"{{}}{'x' * 5000}", f"{'x' * 5000}{{}}"])
async def test_a_cause_is_found_at_both_ends_of_a_long_line(
    database: Database, make_job: JobFactory, printed: str
) -> None:
    """A program may print for a long time before it starts a new line."""
    job, driver = await make_job(), RunDriver(database)
    await driver.append_log(
        await driver.start_run(), printed.format("CUDA out of memory"), *["-"] * 30
    )

    async with database.transaction() as tx:
        read = await log_store.read_excerpts(
            tx, ADA_ID, [job.id], tail_lines=20, pattern=matching.RELEVANT_LINE_PATTERN
        )
    failed = make_status(state=JobState.FAILED, reason=Reason.EXIT_NONZERO, exit_code=1)
    diagnosis = diagnose(failed, read[job.id])

    assert "ran out of memory" in diagnosis.cause
    assert any("CUDA out of memory" in shown for shown in diagnosis.evidence)


@pytest.mark.parametrize(
    ("line", "advised"),
    [
        ("ModuleNotFoundError: No module named 'yaml'", 'dependencies=["pyyaml"]; then'),
        ("ModuleNotFoundError: No module named 'yaml'", "overriding dependencies or image"),
        (
            "ValueError: no",
            "Correct the script, then run it again with retry_job, overriding ",
        ),
    ],
)
def test_a_script_is_mended_where_it_was_given(line: str, advised: str) -> None:
    """It has no command to be overridden, and its packages have an argument of their own."""
    exited = next(case for case in GOLDEN_CASES if case.reason is Reason.EXIT_NONZERO).read_job()
    failed = exited.model_copy(update={"spec": {"script": "import yaml"}, "exit_code": 1})

    diagnosis = diagnose(
        failed, [NumberedLine(0, "Traceback (most recent call last):"), NumberedLine(1, line)]
    )

    assert advised in diagnosis.remedy
