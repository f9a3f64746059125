"""A root folder with Debian trixie and fast-agent, made once and kept in the cache."""

import os
import shutil
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.interop import node_packages
from tests.interop.fast_agent import PACKAGE, VERSION

_SUITE: Final = "trixie"
"""The first Debian with Python 3.13."""
_PACKAGES: Final = ("ca-certificates", "python3", "python3-venv")
_ENVIRONMENT: Final = "/fast-agent"
PYTHON: Final = f"{_ENVIRONMENT}/bin/python"
"""The Python of fast-agent, seen from inside."""
_INSTALL_TIMEOUT_SECONDS: Final = 3600
"""Under load, each of the two steps takes half an hour."""
RUN_TIMEOUT_SECONDS: Final = 300


def prepare_root() -> Path:
    """Return the root; it is made first, from the network."""
    with node_packages.cached_folder(repr((_SUITE, _PACKAGES, PACKAGE, VERSION)).encode()) as (
        place,
        ready,
    ):
        root = place / "root"
        if not ready:
            packages = f"--include={','.join(_PACKAGES)}"
            # In a mount namespace of its own: what it mounts ends with it.
            _run(
                [
                    "unshare",
                    "--mount",
                    "debootstrap",
                    "--variant=minbase",
                    packages,
                    _SUITE,
                    str(root),
                ],
                timeout=_INSTALL_TIMEOUT_SECONDS,
            )
            _trust_what_this_machine_trusts(root)
            run_inside(root, "python3", "-m", "venv", _ENVIRONMENT)
            run_inside(
                root,
                *(PYTHON, "-m", "pip", "install", "--quiet", f"{PACKAGE}=={VERSION}"),
                timeout=_INSTALL_TIMEOUT_SECONDS,
            )
    return root


def run_inside(
    root: Path,
    *command: str,
    variables: Mapping[str, str] | None = None,
    timeout: float = RUN_TIMEOUT_SECONDS,
) -> str:
    """Run a program with that root, and without the variables of this process; return its output.

    Args:
        timeout: in seconds.
    """
    environment = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(variables or {})}
    pairs = [f"{name}={value}" for name, value in environment.items()]
    return _run(["chroot", str(root), "env", "-i", *pairs, *command], timeout=timeout)


def _trust_what_this_machine_trusts(root: Path) -> None:
    """Let names and certificates be what they are outside."""
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    authorities = ssl.get_default_verify_paths().cafile or os.devnull
    for source in ("/etc/ssl/certs/ca-certificates.crt", authorities):
        if Path(source).is_file():
            shutil.copyfile(source, root / "etc/ssl/certs/ca-certificates.crt")
            return


def _run(command: Sequence[str], *, timeout: float) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout
