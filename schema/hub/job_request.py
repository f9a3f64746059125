"""The request of a job, read back from how the Hub describes the job.

The Hub repeats a request but for the values of its secrets. It has accepted the request before, so
nothing is checked here; a launch of it anew is checked like any other.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from schema.billing.budgets import Rate
from schema.billing.pricing import HardwarePrices, price_job
from schema.common.errors import Invalid
from schema.hub.job import RemoteJob, RemoteVolume
from schema.hub.labels import APP_NAME
from schema.specs.hub_job import RESERVED_ENV_PREFIX, TOKEN_VARIABLE, HubJobSpec
from schema.specs.volumes import parse_volume

_MAX_TITLE_CHARS: Final = 80
_LAUNCHED_ARCHITECTURE: Final = "amd64"


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """What a job at the Hub was launched with."""

    spec: HubJobSpec
    labels: dict[str, str]
    """Those of its owner; ours are left out."""
    has_unknown_secrets: bool
    """Whether it has secrets that nobody could look for in its log."""
    missing: list[str]
    """Parts of the request that a launch by us could not repeat."""

    @property
    def title(self) -> str:
        """A few words for people."""
        command = " ".join(self.spec.command or [])
        return f"{self.spec.image}: {command}"[:_MAX_TITLE_CHARS]

    def price(self, prices: HardwarePrices | None) -> Rate | None:
        """Return what it can cost; None if its hardware has no price."""
        with suppress(Invalid):
            return None if prices is None else price_job(self.spec, prices, None)
        return None


def read_request(job: RemoteJob) -> RemoteRequest:
    """Return the request of a job, as far as the Hub repeats it."""
    missing = list[str]()
    volumes = [text for volume in job.volumes or [] if (text := _format_volume(volume))]
    if len(volumes) < len(job.volumes or []):
        missing.append("volumes")
    if job.network is not None:
        missing.append("network")
    if job.arch not in (None, _LAUNCHED_ARCHITECTURE):
        missing.append("arch")
    fields: dict[str, Any] = {
        "image": job.docker_image or f"hf.co/spaces/{job.space_id}",
        "command": [*(job.command or []), *(job.arguments or [])],
        "attempts": 1 + (job.retry or 0),
        "env": {
            name: text
            for name, text in (job.environment or {}).items()
            if not name.startswith(RESERVED_ENV_PREFIX)
        },
        "secrets": sorted(job.secrets or []),
        "volumes": volumes,
        "expose": job.expose.ports if job.expose is not None else [],
        "ssh": job.status is not None and job.status.ssh_url is not None,
    }
    if job.resource_group is not None:
        fields["resource_group_id"] = job.resource_group.id
    if job.flavor is not None:
        fields["flavor"] = job.flavor
    if job.timeout is not None:
        fields["timeout"] = timedelta(seconds=job.timeout)
    return RemoteRequest(
        HubJobSpec.model_construct(**fields),
        {
            name: value
            for name, value in (job.labels or {}).items()
            if not name.startswith(f"{APP_NAME}-")
        },
        has_unknown_secrets=bool(set(job.secrets or []) - {TOKEN_VARIABLE}),
        missing=missing,
    )


def _format_volume(volume: RemoteVolume) -> str | None:
    """Write a volume as a launch takes it; None if a launch would refuse it."""
    if not (volume.type and volume.source and volume.mount_path):
        return None
    revision = f"@{volume.revision}" if volume.revision else ""
    path = f"/{volume.path}" if volume.path else ""
    access = "rw" if volume.type == "bucket" and not volume.read_only else "ro"
    source = f"hf://{volume.type}s/{volume.source}{revision}{path}"
    with suppress(ValueError):
        return str(parse_volume(f"{source}:{volume.mount_path}:{access}"))
    return None
