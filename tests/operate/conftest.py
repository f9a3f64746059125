"""Servers of these tests' own: what they do to roles, no other test may see."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.database.servers import run_postgres

DEBIAN_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture(scope="module", params=["wheel", "system"])
def bare_postgres_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[str]:
    """A server without our roles: that of the wheel, and the one that Debian or Ubuntu installs."""
    with pytest.MonkeyPatch.context() as environment:
        if request.param == "system":
            if not DEBIAN_PROGRAMS:
                pytest.skip("no Postgres in /usr/lib/postgresql (apt install postgresql)")
            environment.setenv("HOLDFAST_POSTGRES_BIN", str(DEBIAN_PROGRAMS[0].parent))
        with run_postgres(tmp_path_factory.mktemp("bare")) as url:
            yield url
