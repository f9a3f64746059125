"""The version of the installed package: in user agents, and in the name of the wake-up queue."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def package_version() -> str:
    """Return the version, which both processes of one deployment share."""
    try:
        return version("holdfast-mcp")
    except PackageNotFoundError:
        return "source"
