"""Which jobs may be run again, and as what: the rules alone, without a database."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from schema.common import ids
from schema.common.errors import Invalid
from schema.jobs.queries import JobStatus
from schema.jobs.tables import JobKind, JobState, Reason
from schema.specs.hub_job import HubJobSpec
from schema.specs.inference import MAX_CALL_TIMEOUT, InferenceSpec
from service.jobs import retries
from service.jobs.retries import HELPFUL_OVERRIDES, POSSIBLY_EXECUTED, RetryRefused
from service.views.job_kinds import describe_kind
from tests.support.paths import DOCS

NOW = datetime(2026, 11, 21, tzinfo=UTC)
JOB_SPEC = HubJobSpec.model_validate(
    {"image": "python:3.12", "command": ["train"], "env": {"AA": "1", "BB": "2"}, "timeout": 3600}
)
CALL_SPEC = InferenceSpec.model_validate({"model": "m/m", "inputs": "Hi", "parameters": {"n": 1}})
SUFFICIENT_OVERRIDES: dict[str, Any] = {
    "image": "python:3.13",
    "command": "train --small",
    "flavor": "a10g-large",
    "timeout": "2h",
    "env": {"BATCH": "1"},
    "script": "print(1)",
    "volumes": ["hf://datasets/ada/set:/data"],
    "attempts": 3,
    "expose": [8000],
}
"""An override of each name that is really another."""
COMBINED_OVERRIDES = {
    name: value for name, value in SUFFICIENT_OVERRIDES.items() if name != "script"
}
"""All of them that go together."""


def make_ended_job(
    reason: Reason | None = None,
    state: JobState = JobState.FAILED,
    spec: HubJobSpec | InferenceSpec = JOB_SPEC,
    **more: Any,
) -> JobStatus:
    kind = JobKind.HUB_JOB if isinstance(spec, HubJobSpec) else JobKind.INFERENCE
    fields: dict[str, Any] = {
        "id": ids.new_id(),
        "subject_id": "s",
        "kind": kind,
        "namespace": "ada",
        "title": spec.title,
        "labels": {},
        "state": state,
        "reason": reason,
        "version": 3,
        "attempt": 1,
        "exit_code": 1,
        "finished_at": NOW,
        "stopping": False,
        "spec": spec.to_stored_json(),
        "read_at": NOW,
    }
    return JobStatus.model_construct(**fields | more)


def rewrite_job(status: JobStatus, **overrides: Any) -> list[str]:
    rerun = retries.plan_retry(status, overrides, {})
    retries.expect_useful_retry(status, rerun)
    return retries.describe_caveats(status, rerun)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.LAUNCHING, JobState.RUNNING])
def test_a_job_that_is_not_over_is_not_run_again(state: JobState) -> None:
    """Two of it would run, and be paid."""
    status = make_ended_job(state=state, finished_at=None)

    with pytest.raises(RetryRefused, match=f"still {state}.*cancel_job"):
        rewrite_job(status, **COMBINED_OVERRIDES)


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.FAILED])
def test_a_job_that_may_be_alive_is_not_run_again(state: JobState) -> None:
    """No second GPU is begun while the first one may cost money, whatever is overridden."""
    status = make_ended_job(Reason.STUCK_SCHEDULING, state=state, stopping=True)

    with pytest.raises(RetryRefused, match="has not been seen to be over"):
        rewrite_job(status, **COMBINED_OVERRIDES)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.CANCELLED])
def test_what_did_not_fail_may_be_run_again_as_it_was(state: JobState) -> None:
    """A second run of the same is what a person may want, of a seed or a snapshot."""
    assert rewrite_job(make_ended_job(state=state)) == []


@pytest.mark.parametrize("name", SUFFICIENT_OVERRIDES)
@pytest.mark.parametrize("reason", HELPFUL_OVERRIDES)
def test_a_failure_that_would_repeat_wants_what_could_help(reason: Reason, name: str) -> None:
    """Memory is not made by time, and time not by nothing."""
    status = make_ended_job(reason)
    change = {name: SUFFICIENT_OVERRIDES[name]}

    with pytest.raises(RetryRefused, match=f"fail again as {reason}"):
        rewrite_job(status)
    if name in HELPFUL_OVERRIDES[reason]:
        assert rewrite_job(status, **change) == []
    else:
        with pytest.raises(RetryRefused, match=f"fail again as {reason}"):
            rewrite_job(status, **change)


@pytest.mark.parametrize("reason", HELPFUL_OVERRIDES)
def test_the_same_value_again_is_no_change(reason: Reason) -> None:
    """Saying what it was before does not make it otherwise."""
    same = {
        n: v
        for n, v in JOB_SPEC.to_stored_json().items()
        if n in describe_kind(JobKind.HUB_JOB).retry_overrides
    }

    with pytest.raises(RetryRefused):
        rewrite_job(make_ended_job(reason), **same)


def test_a_shorter_timeout_does_not_help_what_outran_a_longer_one() -> None:
    """Unless the work is another as well."""
    status = make_ended_job(Reason.TIMED_OUT)

    with pytest.raises(RetryRefused, match="10m is shorter than the one it outran"):
        rewrite_job(status, timeout="10m")
    assert rewrite_job(status, timeout="10m", command="train --small") == []


def test_a_refusal_shows_a_retry_that_would_be_taken() -> None:
    """A model that follows it to the letter gets a job."""
    longest = {"timeout": MAX_CALL_TIMEOUT, "model": "meta-llama/Llama-3.3-70B-Instruct"}
    for reason in HELPFUL_OVERRIDES:
        for spec in (JOB_SPEC, CALL_SPEC, CALL_SPEC.model_copy(update=longest)):
            status = make_ended_job(reason, spec=spec)
            with pytest.raises(RetryRefused) as refused:
                rewrite_job(status)
            example = re.search(r"overrides=\{\"(\w+)\": \"([^\"]+)\"\}", str(refused.value))
            assert example is not None
            assert rewrite_job(status, **{example[1]: example[2]}) == []


@pytest.mark.parametrize("reason", POSSIBLY_EXECUTED)
def test_what_may_have_run_is_run_again_with_a_warning(reason: Reason) -> None:
    """The person decides, knowing that they may pay twice."""
    assert rewrite_job(make_ended_job(reason)) == [
        "The first one may have been carried out, and charged."
    ]
    assert rewrite_job(make_ended_job(reason), **COMBINED_OVERRIDES) == rewrite_job(
        make_ended_job(reason)
    )


def test_what_a_person_can_put_right_elsewhere_is_allowed() -> None:
    """Credits and permissions are given at the Hub, and nobody tells us."""
    [credits_] = rewrite_job(make_ended_job(Reason.INSUFFICIENT_CREDITS))
    [permission] = rewrite_job(make_ended_job(Reason.MISSING_PERMISSION))

    assert "The account ada pays again" in credits_
    assert "Unless your token" in permission


def test_an_unchanged_command_may_fail_alike() -> None:
    """It may also have met a flaky network: allowed, and said."""
    assert rewrite_job(make_ended_job(Reason.EXIT_NONZERO)) == [
        "Unchanged, it may exit with code 1 again."
    ]
    assert rewrite_job(make_ended_job(Reason.EXIT_NONZERO), env={"AA": "2"}) == []


def test_only_what_is_given_changes() -> None:
    """Nobody can read an environment back, so it is joined, and a null takes a name away."""
    rerun = retries.plan_retry(
        make_ended_job(), {"env": {"BB": None, "CC": "3"}, "flavor": "t4-small"}, {}
    )

    assert rerun.spec == JOB_SPEC.model_copy(
        update={"env": {"AA": "1", "CC": "3"}, "flavor": "t4-small"}
    )
    assert rerun.changed_fields == {"env", "flavor"}


def test_a_command_takes_the_place_of_a_script_and_a_script_that_of_a_command() -> None:
    """A job runs one of them; what belongs to the other goes with it."""
    script_fields = {
        "script": "print(1)",
        "script_args": ["a"],
        "dependencies": ["b"],
        "python": "3.12",
    }
    script = HubJobSpec.model_validate(script_fields)

    command = retries.plan_retry(
        make_ended_job(spec=script), {"command": "eval"}, {}
    ).spec.to_stored_json()
    text = retries.plan_retry(make_ended_job(), {"script": "print(2)"}, {}).spec.to_stored_json()
    other = retries.plan_retry(
        make_ended_job(spec=script), {"script": "print(3)", "python": None}, {}
    )

    assert command["command"] == ["eval"]
    assert not command.keys() & script_fields.keys()
    assert (text["script"], text.get("command")) == ("print(2)", None)
    assert other.spec == script.model_copy(update={"script": "print(3)", "python": None})
    assert other.changed_fields == {"script", "python"}


def test_the_header_of_a_new_script_is_named_as_not_read() -> None:
    """A retry keeps the flavor that it has; its author may have expected the header's."""
    script = "# /// script\n# [tool.hf-jobs]\n# flavor = 'l4x1'\n# ///\nprint(1)"
    earlier = make_ended_job(spec=HubJobSpec.model_validate({"script": script}))

    [note] = rewrite_job(earlier, script=f"{script} + 2")

    assert "does not read the script's [tool.hf-jobs]: give what it says in overrides" in note
    assert rewrite_job(earlier, script="print(2)") == []


def test_a_script_is_told_what_helps_a_script() -> None:
    """Not to override a command it does not have."""
    with pytest.raises(RetryRefused, match=r"script, script_args, dependencies, python") as refused:
        rewrite_job(
            make_ended_job(Reason.OOM, spec=HubJobSpec.model_validate({"script": "print(1)"}))
        )

    assert "command" not in str(refused.value)


def test_a_call_is_rewritten_in_the_words_of_its_launch() -> None:
    """What launch_inference takes, a retry takes."""
    overrides = {"inputs": "Ho", "parameters": {"n": None, "seed": 1}}

    rerun = retries.plan_retry(make_ended_job(spec=CALL_SPEC), overrides, {})

    assert rerun.spec.to_stored_json()["inputs"] == [{"role": "user", "content": "Ho"}]
    assert rerun.spec.to_stored_json()["parameters"] == {"seed": 1}


def test_a_title_follows_the_command_unless_it_is_a_name() -> None:
    """A job that says it runs what it does not run misleads."""
    derived = retries.plan_retry(make_ended_job(), {"command": "eval"}, {})
    named = retries.plan_retry(make_ended_job(title="nightly"), {"command": "eval"}, {})

    assert (derived.title, named.title) == ("python:3.12: eval", "nightly")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"secrets": {"KEY": "sesame"}}, "Secrets go into the argument secrets"),
        ({"flavour": "t4-small"}, "'flavour' cannot be overridden; what can be is timeout"),
        ({"model": "m/m"}, "'model' cannot be overridden"),
        ({"flavor": "A10G!"}, "hardware flavor"),
        ({"flavor": None}, "flavor"),
        ({"env": "A=1"}, "env"),
        ({"command": "a && b"}, "for a shell"),
        ({"command": "hf jobs run img cmd"}, 'call launch_job with {"image": "img"'),
        ({"command": "uv run x.py"}, "has no uv"),
    ],
)
def test_a_wrong_override_is_explained(overrides: dict[str, Any], message: str) -> None:
    """And no value of a secret is repeated."""
    with pytest.raises(Invalid, match=message) as refused:
        retries.plan_retry(make_ended_job(), overrides, {})
    assert "sesame" not in str(refused.value)


def test_secrets_have_to_be_given_again() -> None:
    """Their values were wiped at the launch; the refusal names them."""
    status = make_ended_job(spec=JOB_SPEC.model_copy(update={"secrets": ["KEY", "WANDB"]}))

    with pytest.raises(Invalid, match=r'WANDB must be given again.*"KEY": "…", "WANDB": "…"'):
        retries.plan_retry(status, {}, {"KEY": "sesame"})
    rerun = retries.plan_retry(status, {}, {"KEY": "s", "WANDB": "w", "MORE": "m"})

    assert rerun.spec.to_stored_json()["secrets"] == ["KEY", "MORE", "WANDB"]


def test_a_token_is_passed_again_if_it_was() -> None:
    """It is the caller's of the retry; who held the old one may not be calling."""
    status = make_ended_job(spec=JOB_SPEC.model_copy(update={"pass_token": True}))

    assert retries.plan_retry(status, {}, {}).spec.to_stored_json()["pass_token"] is True


def test_a_secret_may_be_the_token_of_whoever_retries() -> None:
    """By its placeholder, which is as good as giving it again."""
    status = make_ended_job(
        spec=JOB_SPEC.model_copy(update={"secrets": ["KEY"], "token_as": ["MINE"]})
    )
    secrets = {"KEY": "${HF_TOKEN}", "HF_TOKEN": "$HF_TOKEN"}

    spec = retries.plan_retry(status, {}, secrets).spec.to_stored_json()

    assert (spec["secrets"], spec["pass_token"]) == ([], True)
    assert spec["token_as"] == ["KEY", "MINE"]


def test_the_documentation_says_the_same() -> None:
    """docs/retry.md has a row for each reason, and what it says must change is what must."""
    page = (DOCS / "retry.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE))

    for reason in Reason:
        row = rows[reason]
        must = set(re.findall(r"`(\w+)`", row.split(".")[0]))
        if reason is Reason.INVALID_REQUEST:
            assert row.startswith("only with something changed")
        elif reason in HELPFUL_OVERRIDES:
            assert row.startswith("only with another ")
            assert must == HELPFUL_OVERRIDES[reason]
        else:
            assert row.startswith("yes")
        assert ("charged" in row) == (reason in POSSIBLY_EXECUTED)


def test_a_job_of_which_a_part_cannot_be_repeated_is_not_run_again() -> None:
    """It was started outside of Holdfast, in a network that a launch here does not join."""
    job = make_ended_job(Reason.EXIT_NONZERO, adoption={"missing": ["network"]})

    with pytest.raises(RetryRefused, match="with network, which a launch here cannot repeat"):
        retries.expect_useful_retry(job, retries.plan_retry(job, {}, {}))
    whole = make_ended_job(Reason.EXIT_NONZERO, adoption={"missing": []})
    retries.expect_useful_retry(whole, retries.plan_retry(whole, {}, {}))
