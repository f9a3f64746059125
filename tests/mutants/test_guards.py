"""The list of guards is up to date; `python3 -m tests.mutants` shows that tests protect them."""

from collections import Counter

from tests.mutants.all_guards import ALL_GUARDS
from tests.support.paths import REPOSITORY


def test_the_text_of_a_guard_stands_once_in_its_file() -> None:
    """Text that has moved on would leave a guard that nobody tries to do without."""
    sources = {
        path: (REPOSITORY / path).read_text("utf-8") for path in {each.path for each in ALL_GUARDS}
    }

    lost = [each.name for each in ALL_GUARDS if sources[each.path].count(each.original) != 1]

    assert lost == []


def test_a_guard_is_tested_by_files_that_exist() -> None:
    """A file that is not there would fail like a guard that is missed."""
    tests = {test for each in ALL_GUARDS for test in each.tests}

    assert [test for test in sorted(tests) if not (REPOSITORY / test).is_file()] == []
    assert all(each.tests for each in ALL_GUARDS)


def test_a_guard_has_a_name_of_its_own() -> None:
    """One that shares its name would be counted and never tried."""
    assert [
        name for name, times in Counter(each.name for each in ALL_GUARDS).items() if times > 1
    ] == []
