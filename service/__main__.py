"""Bootstrap of `python3 -m service` on a machine that has only Python.

In a clone it creates `.venv` once, installs the packages of a lock with their hashes checked, and
runs itself again inside. Most commands need `requirements.local.lock`. The local Hub that goes on
running needs `requirements.hub.lock`, and the tests `requirements.lock`; each has more packages at
the same versions. Until then this file uses the standard library only. Its syntax is such that an
old Python reads it far enough to say that it is too old.
"""

import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

if sys.version_info < (3, 11):  # noqa: UP036 - written for those that are
    sys.exit(f"Holdfast needs Python 3.11 or newer; {sys.executable} is older. Try python3.11.")

ROOT = Path(__file__).resolve().parent.parent
LOCAL_LOCK = ROOT / "requirements.local.lock"
"""The packages and servers that the product runs on."""
HUB_LOCK = ROOT / "requirements.hub.lock"
"""The same, Gradio and uv, which the local Hub runs a Space and scripts with, and traces."""
FULL_LOCK = ROOT / "requirements.lock"
"""The same, and what tests and static checks need."""
LOCKS = (LOCAL_LOCK, HUB_LOCK, FULL_LOCK)
"""Each has all of the one before."""
LOCKS_BY_COMMAND = {"hub": HUB_LOCK, "up": HUB_LOCK} | dict.fromkeys(
    ("--help", "-h", "test"), FULL_LOCK
)
VENV = Path(os.environ.get("HOLDFAST_VENV", ROOT / ".venv")).resolve()
PYTHON = VENV / "bin" / "python"
READY = VENV / ".holdfast-ready"
"""Contains what the environment was completed for, a line each; absent while it is changed."""
CREATED_BY_US = VENV / ".holdfast-made"
"""Says that this file has created the environment, so an incomplete one may be deleted."""
OWN_PACKAGES = ("schema", "service", "workers")
_PROGRESS_INTERVAL_SECONDS = 5.0
_MAX_INSTALLERS = 4


def main() -> int:
    """Run the command line, in an environment that has what it needs."""
    command = sys.argv[1] if sys.argv[1:] else "--help"
    if command == "stdio" and "--local" in sys.argv:
        command = "up"
    enter_environment("service", LOCKS_BY_COMMAND.get(command, LOCAL_LOCK))
    from service.cli.main import main as run  # noqa: PLC0415 - needs what was just installed

    exit_code = run()
    gc.freeze()  # else Python looks through all modules once more: a fifth of a short command
    return exit_code


def enter_environment(module: str, lock: Path = FULL_LOCK) -> None:
    """Install the packages of `lock` if they are missing, and run `module` among them."""
    if lock.exists() and not _is_inside():
        set_up_environment(lock)
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        changes = {"HOLDFAST_BOOTSTRAPPED": "1", "PYTHONPATH": os.pathsep.join(paths)}
        command = [str(PYTHON), "-m", module, *sys.argv[1:]]
        os.execve(command[0], command, os.environ | changes)  # noqa: S606 - we become it


def set_up_environment(lock: Path) -> None:
    """Create or complete the environment, unless it is ready; one process at a time."""
    if os.name != "posix":
        sys.exit("Holdfast runs on Linux and macOS. On Windows, run the same command in WSL2.")
    try:
        if not _is_ready(lock):
            VENV.parent.mkdir(parents=True, exist_ok=True)
            _install_alone(lock)
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command will set up again.")
    except OSError as error:
        # Of another account's clone, mostly.
        sys.exit(
            f"Holdfast cannot set itself up in {VENV}: {error.strerror or error}. Clone the "
            f"project as this account, or set HOLDFAST_VENV to a folder of your own, for example "
            f"HOLDFAST_VENV=~/.holdfast-venv."
        )


def _install_alone(lock: Path) -> None:
    import fcntl  # noqa: PLC0415 - Windows has none

    # The folder itself is the lock. The kernel releases it however we end, and no file is left.
    folder = os.open(VENV.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _report("Another process is setting up Holdfast; waiting for it.")
            fcntl.flock(folder, fcntl.LOCK_EX)
        if not _is_ready(lock):
            _install(lock, folder)
    finally:
        os.close(folder)


def _is_inside() -> bool:
    prefix = Path(sys.prefix).resolve()
    return os.environ.get("HOLDFAST_BOOTSTRAPPED") == "1" or prefix == VENV


def _is_ready(lock: Path) -> bool:
    return _fingerprint(lock) in _read_completed()


def _read_completed() -> list[str]:
    return READY.read_text(encoding="utf-8").splitlines() if READY.exists() else []


def _fingerprint(lock: Path) -> str:
    # The path behind the link, because a system upgrade may put another interpreter there.
    return f"{sha256(lock.read_bytes()).hexdigest()} {PYTHON.resolve()}"


def _install(lock: Path, folder: int) -> None:
    started_at = time.monotonic()
    completed = [each for each in _read_completed() if each.endswith(f" {PYTHON.resolve()}")]
    _report(f"Setting up Holdfast in {VENV}. This happens once and takes about half a minute.")
    if CREATED_BY_US.exists() and not completed:
        shutil.rmtree(VENV)
    if not PYTHON.exists():
        _make_environment()
    installer = _find_installer()
    READY.unlink(missing_ok=True)
    _report(f"Installing {len(_read_packages(lock))} packages.")
    # Two that change what is there could delete what the other one has just written.
    is_empty = not completed and CREATED_BY_US.exists()
    with TemporaryDirectory() as drafts, _own_packages_compiled():
        parts = _split_lock(lock, Path(drafts), _count_installers(installer) if is_empty else 1)
        _run([[*installer, "--require-hashes", "-r", str(part)] for part in parts], folder)
    done = LOCKS[: LOCKS.index(lock) + 1]
    READY.write_text("\n".join(map(_fingerprint, done)), encoding="utf-8")
    _report(f"Ready after {time.monotonic() - started_at:.0f} s.")


def _make_environment() -> None:
    if not VENV.exists():
        VENV.mkdir()
        CREATED_BY_US.touch()
    try:
        import venv  # noqa: PLC0415 - some distributions have none
    except ImportError:
        _make_environment_by_hand()
    else:
        venv.create(VENV, symlinks=True)


def _make_environment_by_hand() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(sys.base_prefix) / "bin" / f"python{version}"
    (VENV / "lib" / f"python{version}" / "site-packages").mkdir(parents=True, exist_ok=True)
    PYTHON.parent.mkdir(exist_ok=True)
    PYTHON.symlink_to(base)
    settings = f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    (VENV / "pyvenv.cfg").write_text(settings, encoding="utf-8")


def _find_installer() -> list[str]:
    target = ["--python", str(PYTHON)]
    # The lock is complete, so that nobody needs to read what each package requires.
    options = ["--disable-pip-version-check", "install", "--no-deps"]
    for pip in ([sys.executable, "-m", "pip"], ["uv", "pip"], ["pip"], ["pip3"]):
        if pip[0] == "uv" and _works(["uv", "--version"]):
            compilation = ["--compile-bytecode"] if sys.dont_write_bytecode else []
            return ["uv", "pip", "install", *target, "--no-deps", *compilation]
        if pip[0] != "uv" and _works([*pip, *target, "--version"]):
            return [*pip, *target, *options]
    if _works([str(PYTHON), "-m", "ensurepip"]):
        return [str(PYTHON), "-m", "pip", *options]
    sys.exit(
        "Nothing on this machine can install Python packages: there is no pip (22.3 or newer), no "
        "uv and no ensurepip. Install one of them, for example with `apt install python3-pip`, "
        "and run the same command again."
    )


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _count_installers(installer: list[str]) -> int:
    # uv works in parallel by itself.
    return 1 if installer[0] == "uv" else min(os.cpu_count() or 1, _MAX_INSTALLERS)


def _read_packages(lock: Path) -> list[str]:
    """Read what a lock says of each package: a line, and its hashes in lines that are indented."""
    packages: list[str] = []
    for line in lock.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith((" ", "\t")):
            packages[-1] += line
        else:
            packages.append(line)
    return packages


def _split_lock(lock: Path, folder: Path, count: int) -> list[Path]:
    """Write the packages of a lock to `count` files, for installers that work side by side."""
    packages = _read_packages(lock)
    parts = [folder / f"part-{number}.txt" for number in range(count)]
    for number, part in enumerate(parts):
        part.write_text("".join(packages[number::count]), encoding="utf-8")
    return parts


@contextmanager
def _own_packages_compiled() -> Generator[None]:
    """Compile our own modules while the block runs, where Python does not keep what it compiles.

    pip does so for the packages. Else each of the processes of a start would compile them again.
    """
    if not sys.dont_write_bytecode:
        yield
        return
    folders = [str(ROOT / package) for package in OWN_PACKAGES]
    with subprocess.Popen(
        [sys.executable, "-m", "compileall", "-q", *folders],
        stdout=subprocess.DEVNULL,  # a clone of another account cannot be written to, nor need be
        stderr=subprocess.DEVNULL,
    ):
        yield


def _run(commands: list[list[str]], folder: int) -> None:
    # PIP_USER, or its equivalent in pip's settings, would install outside the environment.
    environment = os.environ | {"PIP_USER": "0"}
    started_at = time.monotonic()
    with ExitStack() as open_ones:
        runs: list[tuple[subprocess.Popen[bytes], IO[str]]] = []
        for command in commands:
            output = open_ones.enter_context(
                TemporaryFile("w+", encoding="utf-8", errors="replace")
            )
            # It holds the lock too: if we are killed, nobody changes what it still writes.
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, pass_fds=[folder]
            )
            runs.append((open_ones.enter_context(process), output))
        for installer, _ in runs:
            while True:
                try:
                    installer.wait(_PROGRESS_INTERVAL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    elapsed = time.monotonic() - started_at
                    _report(f"Still installing, {elapsed:.0f} s so far.")
        for installer, messages in runs:
            messages.seek(0)
            if installer.returncode != 0:
                sys.exit(
                    f"{messages.read()[-2000:]}\n"
                    f"The installation failed; the lines above say why. Is the package index "
                    f"reachable (`pip config list`)? Then run the same command again."
                )


def _report(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201 - logging is not installed yet


if __name__ == "__main__":
    sys.exit(main())
