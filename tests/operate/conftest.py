"""Servers of these tests' own: what they do to roles, no other test may see."""

from collections.abc import Generator

import pytest

from tests.support.database.servers import find_system_postgres, run_postgres


@pytest.fixture(scope="module", params=["wheel", "system"])
def bare_postgres_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[str]:
    """A server without our roles: that of the wheel, and the one that Debian or Ubuntu installs."""
    with pytest.MonkeyPatch.context() as environment:
        if request.param == "system":
            environment.setenv("HOLDFAST_POSTGRES_BIN", str(find_system_postgres()))
        with run_postgres(tmp_path_factory.mktemp("bare")) as url:
            yield url
