"""Mutants: the code without one of its guards."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from tests.support.paths import REPOSITORY

ALEMBIC: Final = REPOSITORY / "alembic"
"""The folder of the migrations and their SQL, which are no package and cannot be imported."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """The code without one guard.

    Attributes:
        path: the mutated file, relative to the repository.
        original: text of the guard, which stands exactly once in its file.
        tests: test files, relative to the repository. One test in them has to fail.
    """

    name: str
    path: str
    original: str
    replacement: str
    tests: tuple[str, ...]

    def apply(self, source: str) -> str:
        """Return the source without the guard."""
        assert source.count(self.original) == 1, (
            f"{self.name}: not once in {self.path}: {self.original}"
        )
        return source.replace(self.original, self.replacement)


def mutants_in_file(
    source: ModuleType | Path, *tests: ModuleType, **guards: tuple[str, str]
) -> Iterator[Mutant]:
    """Make a mutant of each guard of one file that the same tests protect.

    Args:
        source: the module with the guards; a path only for files that are no module.
        guards: the text of each guard and its replacement, by the name of the mutant.
    """
    path = _relative_path(source)
    test_paths = tuple(_relative_path(test) for test in tests)
    for name, (original, replacement) in guards.items():
        yield Mutant(name, path, original, replacement, test_paths)


def _relative_path(source: ModuleType | Path) -> str:
    if isinstance(source, ModuleType):
        assert source.__file__ is not None
        source = Path(source.__file__)
    return str(source.resolve().relative_to(REPOSITORY))
