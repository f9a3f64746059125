"""Toolsets: the tools that a connection has chosen to have.

A choice only takes tools away. It is made by the client for itself, in the URL or in headers, and
adds nothing to what its token may do.
"""

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schema.common.errors import Denied, Invalid
from schema.common.text import shorten


class Toolset(StrEnum):
    """A group of tools, by the name that a client chooses it by."""

    JOBS = "jobs"
    INFERENCE = "inference"
    SPACES = "spaces"
    BATCHES = "batches"
    SCHEDULES = "schedules"
    WORKSPACES = "workspaces"
    ACCOUNT = "account"


_JOB_TOOLS: Final = frozenset(
    {
        *("job_status", "list_jobs", "job_logs", "job_result"),
        *("wait_for_jobs", "cancel_job", "retry_job"),
        "create_upload",
    }
)
"""What goes before and after a launch, whatever is launched."""

TOOLS_BY_TOOLSET: Final[Mapping[Toolset, frozenset[str]]] = {
    Toolset.JOBS: _JOB_TOOLS | {"launch_job", "adopt_job", "list_hardware"},
    Toolset.INFERENCE: _JOB_TOOLS | {"launch_inference"},
    Toolset.SPACES: _JOB_TOOLS | {"launch_space_call"},
    # The same tool asks once, or for each item of a batch.
    Toolset.BATCHES: _JOB_TOOLS | {"launch_inference"},
    Toolset.SCHEDULES: frozenset(
        {"create_schedule", "list_schedules", "update_schedule", "delete_schedule"}
    ),
    Toolset.WORKSPACES: frozenset(
        {
            *("create_workspace", "workspace_status", "list_workspaces"),
            *("update_workspace", "archive_workspace", "rotate_webhook_secret"),
        }
    ),
    Toolset.ACCOUNT: frozenset({"whoami", "spending"}),
}


@dataclass(frozen=True, slots=True)
class ToolSelection:
    """What a connection has chosen."""

    toolsets: frozenset[Toolset] = frozenset(Toolset)
    read_only: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether nothing was taken away."""
        return not self.read_only and len(self.toolsets) == len(Toolset)

    def includes(self, tool: str, *, is_read_only: bool = True) -> bool:
        """Return whether a tool is left; one that is in no toolset, only if all are chosen.

        Args:
            is_read_only: whether the tool changes nothing.
        """
        if self.read_only and not is_read_only:
            return False
        if len(self.toolsets) == len(Toolset):
            return True
        return any(tool in TOOLS_BY_TOOLSET[toolset] for toolset in self.toolsets)


CURRENT_SELECTION: Final[ContextVar[ToolSelection]] = ContextVar(
    "selection",
    default=ToolSelection(),  # noqa: B039  # frozen
)
"""Set by the HTTP middleware for the length of one request."""


class ToolNotChosen(Denied):
    """The call would do what a tool does that its connection has not chosen."""

    def __init__(self, tool: str) -> None:
        toolsets = [str(name) for name, tools in TOOLS_BY_TOOLSET.items() if tool in tools]
        choice = f" the toolset {toolsets[0]} beside the others" if toolsets else " all toolsets"
        super().__init__(
            f"This connection has not chosen {tool or 'the tool that launches this'}, so it cannot "
            f"have that launched in another way either, and nothing was done. Choose{choice} where "
            "the connection is set up."
        )


def parse_toolsets(text: str) -> frozenset[Toolset]:
    """Read names with commas between them; blanks around a name do not count.

    Raises:
        Invalid: a name is of no toolset, or there is none.
    """
    names = [name.strip(" \t") for name in text.split(",")]
    known = {str(toolset) for toolset in Toolset}
    if unknown := [name for name in names if name not in known]:
        what = f"There is no toolset {shorten(unknown[0], 60)}" if unknown[0] else "A name is empty"
        raise Invalid(f"{what}. {describe_toolsets()}")
    return frozenset(map(Toolset, names))


def describe_toolsets() -> str:
    """Say which toolsets there are, and how to choose some."""
    return (
        f"The toolsets are {', '.join(Toolset)}. Choose some in the URL, as /mcp?toolsets=jobs,"
        "account, or in the header X-MCP-Toolsets: jobs,account."
    )


class ToolCatalog:
    """The tools of a server, and which of them the current connection has chosen."""

    def __init__(self, read_only_by_name: Iterable[tuple[str, bool]]) -> None:
        """Remember the tools.

        Args:
            read_only_by_name: the name of each tool, and whether it changes nothing.
        """
        self._is_read_only = dict(read_only_by_name)

    def is_selected(self, tool: str) -> bool:
        """Return whether the current connection has a tool; an unknown one is a writing one."""
        is_read_only = self._is_read_only.get(tool, False)
        return CURRENT_SELECTION.get().includes(tool, is_read_only=is_read_only)

    def selected_names(self) -> list[str]:
        """Return the names of the tools that the current connection has, in their order."""
        return [name for name in self._is_read_only if self.is_selected(name)]
