"""Where the stack of a data folder serves, or served last: for whoever wants to connect to it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from service.local.data_dir import is_from_this_lock, is_locked, write_private_file

_FILE: Final = "last-start.json"


@dataclass(frozen=True, slots=True)
class LastStart:
    """The addresses of the last stack that a data folder had; `is_running` says if it has it now.

    `hub_url` is the Hub of its jobs; None is the local Hub. `servers` are the variables that name
    its Postgres, its Redis and its Hub.
    """

    url: str
    hub_url: str | None
    servers: Mapping[str, str] = field(default_factory=dict[str, str])
    is_running: bool = True

    def save(self, folder: Path) -> None:
        """Write the addresses down, when the stack starts."""
        fields = {"url": self.url, "hub_url": self.hub_url, "servers": dict(self.servers)}
        write_private_file(folder / _FILE, json.dumps(fields))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Return the addresses of the last start; None if there was none."""
        try:
            fields = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            # A stack that is starting has the lock already, and the addresses are of one before.
            is_running = is_locked(folder) and is_from_this_lock(folder / _FILE)
            return cls(fields["url"], fields["hub_url"], fields["servers"], is_running)
        except (FileNotFoundError, ValueError, KeyError):
            return None
