"""The rules of the house that no linter knows: names, docstrings, and the size of a folder."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.paths import PACKAGE_FOLDERS, REPOSITORY

MODULES: Final = sorted(
    path
    for folder in (*PACKAGE_FOLDERS, REPOSITORY / "tests", REPOSITORY / "alembic")
    for path in folder.rglob("*.py")
    if path.stat().st_size and "node_modules" not in path.parts
)
MAX_FOLDER_ENTRIES: Final = 14
NOT_COUNTED: Final = frozenset({"__init__.py", "__pycache__"})
"""Entries that every folder has."""
BANNED_NAMES: Final = frozenset(
    {"asked", "given", "told", "found", "kept", "said", "wanted", "it", "by", "obj", "info"}
)
"""Pronouns and participles: a name is a noun of the domain."""
BANNED_WORDS: Final = frozenset({"manager", "helper", "helpers", "util", "utils", "impl"})
"""Words that say nothing of what a thing is, anywhere in a name."""
BANNED_VERBS: Final = re.compile(r"_?(do|process|handle)_[a-z_]+")
"""Verbs that say nothing of what a function does."""
OF_LIBRARIES: Final = frozenset(
    {
        "do_GET",
        "do_POST",
        "do_PUT",
        "handle_request",
        "handle_async_request",
        "handle_starttag",
        "handle_exit",
    }
)
"""Names that a library calls."""

STORED: Final = frozenset(
    {
        "schema/jobs/dependencies.py: told",
        "schema/schedules/tables.py: asked",
        "service/schedules/views.py: asked",
    }
)
"""Columns of the database, and a field that clients read."""


def defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield each name that a module defines, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name
            case _:
                pass


def functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield each function that a module defines, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name


def words(name: str) -> list[str]:
    """Split a name, however it is written, into lower-case words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Parse every module of ours, by its path."""
    return {
        str(path.relative_to(REPOSITORY)): ast.parse(path.read_text(encoding="utf-8"))
        for path in MODULES
    }


def test_a_module_docstring_begins_with_a_statement(trees: dict[str, ast.Module]) -> None:
    """A reader who opens a file learns first what it is."""
    wrong: list[str] = []
    for path, tree in trees.items():
        first = (ast.get_docstring(tree) or "").partition("\n")[0]
        if not path.startswith("alembic/versions/") and not first.endswith("."):
            wrong.append(f"{path}: {first!r}")

    assert wrong == []


def test_names_are_words_of_the_domain(trees: dict[str, ast.Module]) -> None:
    """A name that could stand for anything has to be looked up each time."""
    wrong = [
        f"{path}:{line}: {name}"
        for path, tree in trees.items()
        for line, name in defined_names(tree)
        if (name.strip("_") in BANNED_NAMES or BANNED_WORDS & set(words(name)))
        and f"{path}: {name}" not in STORED
    ]

    assert wrong == []


def test_functions_are_named_by_what_they_do(trees: dict[str, ast.Module]) -> None:
    """A name such as `process_job` does not say what happens to the job."""
    wrong = [
        f"{path}:{line}: {name}"
        for path, tree in trees.items()
        for line, name in functions(tree)
        if BANNED_VERBS.fullmatch(name) and name not in OF_LIBRARIES
    ]

    assert wrong == []


def test_no_two_public_classes_have_one_name(trees: dict[str, ast.Module]) -> None:
    """One word means one thing in the whole tree."""
    times = Counter(
        node.name
        for path, tree in trees.items()
        if path.partition("/")[0] in {folder.name for folder in PACKAGE_FOLDERS}
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )

    assert [name for name, count in times.items() if count > 1] == []


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    """More than `MAX_FOLDER_ENTRIES` are a list to search, not a place to know."""
    wrong: list[str] = []
    for package in PACKAGE_FOLDERS:
        for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
            if folder.name in NOT_COUNTED:
                continue
            entries = {path.name for path in folder.iterdir()} - NOT_COUNTED
            if len(entries) > MAX_FOLDER_ENTRIES:
                wrong.append(f"{folder.relative_to(REPOSITORY)}: {len(entries)} entries")

    assert wrong == []
