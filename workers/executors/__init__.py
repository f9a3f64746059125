"""The executors: one module for each kind of job, discovered without a list.

Each module has a function `create_executor(deps)`; see `docs/executors.md`.
"""

import pkgutil
from importlib import import_module

from schema.common.process.imports import no_collections
from workers.executor import Executor, ExecutorDeps


def discover_executors(deps: ExecutorDeps) -> dict[str, Executor]:
    """Create all executors, by the kind of job that they carry out."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    with no_collections():
        modules = [import_module(f"{__name__}.{name}") for name in names]
    executors: list[Executor] = [module.create_executor(deps) for module in modules]
    return {executor.kind: executor for executor in executors}
