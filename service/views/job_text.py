"""What is known of one job as lines of text, for a host that shows a model nothing else."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from schema.common.money import format_usd, to_micro_usd
from schema.common.text import shorten
from schema.jobs.tables import JobState
from service.views.jobs import JobView, ProgressView, WebhookView
from service.views.money import CostView
from service.views.text import end_sentence, fit_text

_MAX_LABELS_CHARS: Final = 500
_MAX_LABELS_BYTES: Final = 1000
_SSH_SCHEME: Final = "ssh://"


def describe_job(job: JobView) -> str:
    """Write what the summary of a job leaves out, and the end of the log of one that failed."""
    return "\n".join([describe_facts(job), *_describe_run(job), *_describe_log_tail(job)])


def describe_facts(job: JobView) -> str:
    """Write the state of a job and what it belongs to, on a line each."""
    state = {
        "state": job.state,
        "reason": job.reason,
        "hold": job.hold,
        "version": job.version,
        "upstream": job.upstream,
        "stage": job.stage,
        "exit_code": job.exit_code,
        "poll_after_seconds": job.poll_after_seconds,
        "kind": job.kind,
        "namespace": job.namespace,
        "flavor": job.flavor,
        "timeout": job.timeout,
    }
    origin = {
        "workspace_id": job.workspace_id,
        "rerun_of": job.rerun_of,
        "schedule_id": job.schedule_id,
        "after": ", ".join(job.after) or None,
        "labels": fit_text(shorten(_list_labels(job.labels), _MAX_LABELS_CHARS), _MAX_LABELS_BYTES)
        or None,
    }
    lines = [f"{job.job_id}: {_list_facts(state)}", _list_facts(origin)]
    return "\n".join(filter(None, lines))


def _describe_run(job: JobView) -> Iterator[str]:
    yield describe_cost(job.cost)
    if job.progress is not None:
        yield _describe_progress(job.progress)
        if job.progress.partial is not None and job.state is not JobState.SUCCEEDED:
            yield f"What it has yielded so far:\n{job.progress.partial}"
    times = {
        "created": _format_second(job.created_at),
        "started": _format_second(job.started_at),
        "finished": _format_second(job.finished_at),
    }
    yield _list_facts(times)
    if job.url is not None:
        yield f"Page: {job.url}"
    if job.webhook is not None:
        yield _describe_webhook(job.webhook)
    if job.exposed_urls:
        yield f"While it runs, with your token as bearer: {' '.join(job.exposed_urls)}"
    if job.ssh_url is not None:
        yield f"Login while it runs: ssh {job.ssh_url.removeprefix(_SSH_SCHEME)} ({job.ssh_url})"


def describe_cost(cost: CostView) -> str:
    """Write what a job costs, as far as that is known."""
    if cost.ceiling_usd is None:
        return "Cost: not known."
    ceiling = format_usd(to_micro_usd(cost.ceiling_usd), is_bound=True)
    if cost.so_far_usd is None:
        return f"Cost: {ceiling} at most."
    so_far = format_usd(to_micro_usd(cost.so_far_usd))
    return f"Cost: {so_far}{', final' if cost.final else ' so far'}; {ceiling} at most."


def _describe_webhook(webhook: WebhookView) -> str:
    facts = {
        "attempts": webhook.attempts or None,
        "last_status": webhook.last_status,
        "last_error": webhook.last_error,
        "next attempt": _format_second(webhook.next_attempt_at),
        "delivered": _format_second(webhook.delivered_at),
    }
    known = _list_facts(facts)
    return f"Webhook at {webhook.host}: {webhook.state}{f', {known}' if known else ''}."


def _describe_progress(progress: ProgressView) -> str:
    counts = [str(count) for count in (progress.done, progress.total) if count is not None]
    parts = [" of ".join(counts), progress.message]
    return f"Progress: {end_sentence(': '.join(filter(None, parts)))}"


def _describe_log_tail(job: JobView) -> list[str]:
    return ["The end of its log:", *job.log_tail] if job.log_tail else []


def _list_facts(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)


def _list_labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in labels.items())


def _format_second(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
