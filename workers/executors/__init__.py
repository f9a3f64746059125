"""What carries jobs out: one module for each kind of job, found here by itself.

A module has a function `executor(means)` that makes its executor; see `docs/executors.md`.
"""

import pkgutil
from importlib import import_module

from workers.executor import Executor, ExecutorDeps


def discover_executors(deps: ExecutorDeps) -> dict[str, Executor]:
    """Make every executor there is, by the kind of job it carries out."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    made: list[Executor] = [import_module(f"{__name__}.{name}").executor(deps) for name in names]
    return {executor.kind: executor for executor in made}
