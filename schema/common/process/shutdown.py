"""The last bound on the end of a process: whatever it waits for, it ends within its grace.

A process that is told to stop ends by itself: steps finish or are handed back, connections close,
and each of these has a bound of its own. This bound is for what nobody has thought of: a library
that loses a cancel, a thread in the lookup of a name, a log that nobody reads. It costs no more
than a crash does, and what it ends was to end anyway.
"""

import asyncio
import faulthandler
import os
import signal
import threading
from datetime import timedelta
from typing import Any, Final

import structlog

GRACE: Final = timedelta(seconds=10)
"""How long supervisors wait before they kill."""
_REPORT_MARGIN: Final = timedelta(seconds=0.5)
"""How long before the end of the grace the report is written."""
_KERNEL_MARGIN: Final = timedelta(seconds=0.2)
_OVERDUE_EXIT_CODE: Final = 1

log = structlog.stdlib.get_logger()


def end_within(grace: timedelta) -> None:
    """End this process when the grace is over; log what it still waits for.

    Call it where the event loop runs, once the process is told to stop.
    """
    report_after = grace - _REPORT_MARGIN
    timer = threading.Timer(
        report_after.total_seconds(), _end_overdue_process, [asyncio.get_running_loop()]
    )
    timer.daemon = True
    timer.start()
    # For a process that cannot even report, because a thread keeps the interpreter, or nobody reads
    # its log: nothing handles this signal, so that the kernel ends the process.
    signal.setitimer(signal.ITIMER_REAL, (grace - _KERNEL_MARGIN).total_seconds())


def _end_overdue_process(loop: asyncio.AbstractEventLoop) -> None:
    tasks: set[asyncio.Task[Any]] = set() if loop.is_closed() else asyncio.all_tasks(loop)
    log.error("process.overdue", tasks=[repr(task) for task in tasks])
    faulthandler.dump_traceback()
    os._exit(_OVERDUE_EXIT_CODE)
