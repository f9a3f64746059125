"""Versions of packages, as the lock files of the clients pin them."""

import json
import re
from pathlib import Path


def read_locked_version(lock: Path, package: str) -> str:
    """Return the version of a package in a lock file, of npm by its folder or of uv by its name."""
    locked = lock.read_text(encoding="utf-8")
    if lock.suffix == ".json":
        return str(json.loads(locked)["packages"][f"node_modules/{package}"]["version"])
    (version,) = re.findall(rf"^{re.escape(package)}==(\S+)", locked, re.MULTILINE)
    return str(version)
