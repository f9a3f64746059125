"""Views of jobs at the Hub that have no handle."""

from datetime import datetime
from typing import Final, Self

from typing_extensions import override

from schema.common.text import format_utc
from schema.hub.job import RemoteJob
from schema.hub.job_request import read_request
from service.views.base import Detail, View
from service.views.pages import EntryView
from service.views.text import fit_text

_MAX_TITLE_BYTES: Final = 120
_MAX_WORDS_BYTES: Final = 60


class OutsideJobEntry(EntryView):
    """A job that was started outside of Holdfast: one line, and the call that adopts it."""

    hub_job_id: Detail[str]
    namespace: Detail[str]
    stage: Detail[str | None]
    title: Detail[str]
    flavor: Detail[str | None]
    created_at: Detail[datetime | None]
    url: Detail[str]
    next_step: str

    @property
    @override
    def line(self) -> str:
        facts = [self.stage, self.flavor]
        if self.created_at is not None:
            facts.append(f"created {format_utc(self.created_at)}")
        return f"{self.hub_job_id} {', '.join(filter(None, facts))}: {self.title}"

    @classmethod
    def from_job(cls, job: RemoteJob, namespace: str, hub_url: str) -> Self:
        """Show a job as the Hub lists it."""
        return cls(
            hub_job_id=job.id,
            namespace=namespace,
            stage=job.stage and fit_text(job.stage, _MAX_WORDS_BYTES),
            title=fit_text(read_request(job).title, _MAX_TITLE_BYTES),
            flavor=job.flavor and fit_text(job.flavor, _MAX_WORDS_BYTES),
            created_at=job.creation_time,
            url=f"{hub_url}/jobs/{namespace}/{job.id}",
            next_step=f'Call adopt_job(hub_job_id="{job.id}", namespace="{namespace}").',
        )


class OutsideJobPage(View):
    """Jobs at the Hub without a handle, the newest first."""

    jobs: list[OutsideJobEntry]
    next_cursor: str | None
