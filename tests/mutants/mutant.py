"""One guard of the code, and how it is taken out."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """The code without one guard; its text stands exactly once in its file."""

    name: str
    path: str
    original: str
    replacement: str
    tests: tuple[str, ...]
    """The files of which one test has to notice."""

    def apply(self, source: str) -> str:
        """Return the source without the guard."""
        assert source.count(self.original) == 1, (
            f"{self.name}: not once in {self.path}: {self.original}"
        )
        return source.replace(self.original, self.replacement)


def mutants_in_file(path: str, *tests: str, **guards: tuple[str, str]) -> Iterator[Mutant]:
    """Name the guards of one file that the same tests should miss: the text, and what instead."""
    for name, (text, instead) in guards.items():
        yield Mutant(name, path, text, instead, tests)
