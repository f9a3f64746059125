"""One program under supervision: its start, the wait until it is ready, and its end.

A child does not outlive its supervisor (see `exec_wrapper`) and writes to its own log. It has its
own session, so Ctrl-C in a terminal reaches only the supervisor, which then stops the child.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, NoReturn, Protocol

from service.local.errors import CannotStart
from service.local.processes.os_account import CURRENT_ACCOUNT, OsAccount

DEFAULT_STOP_SIGNALS: Final = (
    (signal.SIGTERM, timedelta(seconds=10)),
    (signal.SIGKILL, timedelta(seconds=5)),
)
_POLL_INTERVAL: Final = timedelta(milliseconds=10)
_LOG_TAIL_CHARS: Final = 2000


class Stoppable(Protocol):
    """A program that can be stopped; a second stop does nothing."""

    def stop(self) -> None: ...


class Child:
    """A program, its log, and the signals that end it with the time to wait after each."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        environment: Mapping[str, str],
        log_path: Path,
        *,
        folder: Path,
        account: OsAccount = CURRENT_ACCOUNT,
        stop_signals: Sequence[tuple[signal.Signals, timedelta]] = DEFAULT_STOP_SIGNALS,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._argv = argv
        self._environment = environment
        self._folder = folder
        self._account = account
        self._stop_signals = stop_signals
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id until `stop`; None before `start`."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """How the program ended by itself; None while it runs, before `start` and after `stop`."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the program; on Linux it ends when the calling thread ends."""
        command = self._account.wrap_command(*self._argv, death_signal=self._stop_signals[0][0])
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until(self, is_ready: Callable[[], bool], timeout: timedelta) -> None:
        """Wait until `is_ready`.

        Raises:
            CannotStart: it ended, or took longer than `timeout` and was stopped.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        while self.exit_code is None and not is_ready():
            if time.monotonic() > deadline:
                self._fail(f"was not ready within {timeout.total_seconds():g} seconds")
            time.sleep(_POLL_INTERVAL.total_seconds())
        if self.exit_code is not None:
            self._fail(f"ended with exit code {self.exit_code}")

    def run(self, timeout: timedelta) -> None:
        """Start the program and wait until it ends.

        Raises:
            CannotStart: it failed, or took longer than `timeout` and was stopped.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        self.start()
        try:
            while self.exit_code is None:
                if time.monotonic() > deadline:
                    self._fail(f"did not finish within {timeout.total_seconds():g} seconds")
                time.sleep(_POLL_INTERVAL.total_seconds())
            if self.exit_code != 0:
                self._fail(f"ended with exit code {self.exit_code}")
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop the program with its stop signals in turn; a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        for stop_signal, timeout in self._stop_signals:
            process.send_signal(stop_signal)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout.total_seconds())
                return

    def _fail(self, problem: str) -> NoReturn:
        self.stop()
        raise CannotStart(
            f"{self.name} {problem}. The end of {self.log_path}:\n{self._read_log_tail()}"
        )

    def _read_log_tail(self) -> str:
        with suppress(FileNotFoundError):
            return self.log_path.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL_CHARS:]
        return ""


def stop_side_by_side(programs: Sequence[Stoppable]) -> None:
    """Stop programs that need nothing of each other, in the time of the slowest."""
    with ThreadPoolExecutor(max(len(programs), 1)) as threads:
        for stop in [threads.submit(program.stop) for program in programs]:
            stop.result()


def stop_orphan(
    pidfile: Path, command_marker: str, stop_signal: signal.Signals, timeout: timedelta
) -> None:
    """Stop the server that a killed supervisor has left behind, and remove its pid file.

    Args:
        pidfile: the file with the server's pid in its first line; it may be missing.
        command_marker: what the command line must contain; else the pid is another program's.
        stop_signal: the signal to send.
        timeout: how long to wait for the end.

    Raises:
        CannotStart: the server does not stop in time.
    """
    try:
        pid = int(pidfile.read_text(encoding="ascii").split("\n")[0])
    except (FileNotFoundError, ValueError):
        return
    deadline = time.monotonic() + timeout.total_seconds()
    if command_marker in _read_command_line(pid):
        os.kill(pid, stop_signal)
    while command_marker in _read_command_line(pid):
        if time.monotonic() > deadline:
            raise CannotStart(
                f"An older server (process {pid}) does not stop; it uses {command_marker}."
            )
        time.sleep(_POLL_INTERVAL.total_seconds())
    pidfile.unlink(missing_ok=True)


def _read_command_line(pid: int) -> str:
    # A zombie has an empty command line. That is right: it has released its files and ports.
    if Path("/proc/self").exists():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return line.replace(b"\0", b" ").decode(errors="replace")
    ps = subprocess.run(
        ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return ps.stdout
