"""Environments for Python clients whose packages would clash with ours."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import uv

from tests.interop import node_packages

CLIENTS_FOLDER: Final = Path(__file__).resolve().parent / "clients"


def lock_path(name: str) -> Path:
    """Return the lock of a client's environment."""
    return CLIENTS_FOLDER / f"requirements-{name}.lock"


def install_interpreter(locked: Path) -> str:
    """Return a Python with the packages of a lock; they are installed first, from the network.

    Raises:
        RuntimeError: uv could not fetch them.
    """
    with node_packages.cached_folder(locked.read_bytes(), sys.version.encode()) as (place, ready):
        python = place / "bin" / "python"
        if not ready:
            _run_uv("venv", "--allow-existing", "--python", sys.executable, str(place))
            install = ("pip", "install", "--python", str(python), "--require-hashes")
            _run_uv(*install, "--requirements", str(locked))
    return str(python)


def _run_uv(*command: str) -> None:
    done = subprocess.run(
        [uv.find_uv_bin(), "--quiet", *command],
        env=os.environ | {"UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
        timeout=node_packages.TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"uv could not make an environment for a client.\n{done.stderr[-2000:]}")
