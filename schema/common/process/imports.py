"""The collector of cyclic garbage, and the modules of a process: it has nothing to do there.

What is imported lives as long as the process. Looking through it again and again takes a tenth of
the time of an import, and looking through it once more takes a third of a second at the end.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def no_collections() -> Generator[None]:
    """Collect no garbage while modules are imported, and none of what is there afterwards."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
