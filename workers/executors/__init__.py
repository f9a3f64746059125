"""The executors: one module for each kind of job, discovered without a list.

Each module has a function `create_executor(deps)`; see `docs/executors.md`.
"""

import pkgutil
from importlib import import_module

from workers.executor import Executor, ExecutorDeps


def discover_executors(deps: ExecutorDeps) -> dict[str, Executor]:
    """Create all executors, by the kind of job that they carry out."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    executors: list[Executor] = [
        import_module(f"{__name__}.{name}").create_executor(deps) for name in names
    ]
    return {executor.kind: executor for executor in executors}
