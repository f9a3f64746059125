"""How does a job's process end with all its children, whatever becomes of the Hub?

Run as a program of its own, holding the other end of a pipe on its standard input:

    python -I -S keeper.py BYTES -- PROGRAM ARGUMENTS...

The program gets a session and at most BYTES of address space. When it ends, or when the pipe is
closed (by a cancel, a timeout, or the kernel because the Hub is dead), the whole session is killed
and the folder it ran in is removed.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

_NOT_FOUND = 127
_SIGNALLED = 128


def main() -> None:
    """Start the program, and see to it that nothing of it stays."""
    memory, program = int(sys.argv[1]), sys.argv[3:]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        child = subprocess.Popen(program, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        sys.stderr.write(f"exec: {program[0]}: {error.strerror}\n")
        sys.exit(_NOT_FOUND)

    def end_with_the_pipe() -> None:
        while os.read(0, 1024):
            pass
        _kill(child.pid)

    threading.Thread(target=end_with_the_pipe, daemon=True).start()
    code = child.wait()
    _kill(child.pid)
    # The job's folder, in which we run: the Hub may no longer be there to remove it.
    shutil.rmtree(Path.cwd(), ignore_errors=True)
    # Not sys.exit: the thread may still be reading.
    os._exit(code if code >= 0 else _SIGNALLED - code)


def _kill(session: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


if __name__ == "__main__":
    main()
