"""Where does a job leave what it makes, and is there such a place at all?"""

from datetime import timedelta
from typing import Final

from schema.common import ids
from schema.common.ids import Kind
from schema.specs import volumes
from schema.specs.hub_job import TOKEN_VARIABLE, HubJobSpec
from service.effective import Effective

_LITTLE: Final = timedelta(minutes=30)
"""What runs so long on the smallest machine may well be made for its log."""
_SMALLEST: Final = "cpu-basic"


def place(bucket: str, namespace: str, effective: Effective) -> str:
    """Return the bucket for outputs, and the folder of a workspace in it."""
    if (chosen := effective.given.get("bucket")) is not None:
        return str(chosen)
    common = f"{namespace}/{bucket}"
    if effective.workspace_id is None:
        return common
    return f"{common}/{ids.write(Kind.WORKSPACE, effective.workspace_id)}"


def nothing_survives(spec: HubJobSpec) -> list[str]:
    """Say so if a job costs something, and nothing that it makes can outlive it but its log."""
    is_little = spec.flavor == _SMALLEST and spec.timeout <= _LITTLE
    has_token = spec.pass_token or spec.token_as or spec.secrets or TOKEN_VARIABLE in spec.env
    writes = any(not volumes.parse(each).read_only for each in spec.volumes)
    if is_little or has_token or writes or spec.outputs:
        return []
    return ["Nothing it makes is kept but its log: name outputs, or let it have a token to upload."]
