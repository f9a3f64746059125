"""What may be asked of the place a job runs in, besides what hardware it has?"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

_MOST_ATTEMPTS: Final = 100
_GROUP: Final = re.compile(r"[0-9a-f]{24}")
_SHOWN: Final = 60


def _group(group: str) -> str:
    if not _GROUP.fullmatch(group):
        message = (
            f"{group[:_SHOWN]!r} is not the id of a resource group: 24 digits and letters a to f, "
            f"as the settings of the organisation show it"
        )
        raise ValueError(message)
    return group


def _once(ports: list[int]) -> list[int]:
    return sorted(set(ports))


Attempts = Annotated[int, Field(ge=1, le=_MOST_ATTEMPTS)]
ResourceGroup = Annotated[str, Field(max_length=100), AfterValidator(_group)]
Port = Annotated[int, Field(ge=1, le=65535)]
Ports = Annotated[list[Port], Field(max_length=20), AfterValidator(_once)]
