"""A program under a sampling profiler: `python -m tests.bench.profiled_program OUT MODULE [ARGS]`.

The samples are of the time on the wall, each millisecond, of the main thread. The signal `BEGIN`
begins them anew, so that imports and the start are not among them. They end with the signal `END`,
or with the program, and are written to OUT as JSON of pyinstrument.
"""

import runpy
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

from pyinstrument import Profiler
from pyinstrument.renderers import JSONRenderer

BEGIN: Final = signal.SIGUSR1
END: Final = signal.SIGUSR2
_INTERVAL_SECONDS: Final = 0.001


def main(out: Path, module: str, *arguments: str) -> None:
    """Run a module as a program."""
    # Of the event loop as a whole: each task would be a profile of its own.
    profiler = Profiler(interval=_INTERVAL_SECONDS, async_mode="disabled")

    def begin(_number: int, _frame: FrameType | None) -> None:
        profiler.stop()
        profiler.start()

    def end(_number: int, _frame: FrameType | None) -> None:
        draft = out.with_suffix(".draft")
        draft.write_text(JSONRenderer(show_all=True).render(profiler.stop()), "utf-8")
        draft.replace(out)

    signal.signal(BEGIN, begin)
    signal.signal(END, end)
    sys.argv = [module, *arguments]
    profiler.start()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        if profiler.is_running:
            signal.raise_signal(END)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
