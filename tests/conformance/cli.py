"""The command that runs the official suite and reports what it found."""

import base64
import logging
import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp

from rich.console import Console
from rich.markdown import Markdown

from schema.db import revisions
from schema.settings import Settings
from tests.conformance import suite
from tests.conformance.report import (
    SuiteResults,
    find_failures,
    find_service_failures,
    format_report,
)
from tests.conformance.servers import run_service, run_service_with_suite_tools
from tests.support.database.servers import run_postgres, run_valkey
from tests.support.hub.fake_hub import run_fake_hub


def main() -> int:
    """Run the suite against both servers and print the report; return the exit code."""
    logging.disable()  # the suite provokes what is worth a line anywhere else
    folder = Path(mkdtemp(prefix="holdfast-conformance-"))
    console = Console(highlight=False)
    with ExitStack() as stack:
        database = stack.enter_context(run_postgres(folder / "postgres"))
        revisions.upgrade_to_revision(database)
        settings = Settings.model_validate(
            {
                "HOLDFAST_DATABASE_URL": database,
                "HOLDFAST_REDIS_URL": stack.enter_context(run_valkey(folder / "valkey")),
                "hub_url": stack.enter_context(run_fake_hub()).url,
                "vault_keys": f"1:{base64.b64encode(os.urandom(32)).decode()}",
                "data_dir": str(folder),
                "calls_per_minute": 0,
            }
        )
        suite_server = stack.enter_context(run_service_with_suite_tools(settings))
        service = stack.enter_context(run_service(settings))
        runs: dict[str, tuple[SuiteResults, SuiteResults]] = {
            revision: (
                suite.run_suite(suite_server, revision, folder / f"{revision}-edge"),
                suite.run_suite(service, revision, folder / f"{revision}-service"),
            )
            for revision in suite.REVISIONS
        }
    problems = [
        f"{revision}: {problem}"
        for revision, results in runs.items()
        for problem in [
            *find_failures(revision, results[0]),
            *find_service_failures(revision, results[1]),
        ]
    ]
    console.print(Markdown(format_report(runs)))
    console.print(f"Every answer is in {folder}.", *problems, sep="\n", markup=False)
    return 1 if problems else 0
