"""Run the official suite and say what it found; ends with 1 if something is wrong."""

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
from tests.conformance.servers import furnished, our_service
from tests.conformance.verdict import Found, report, wrongs, wrongs_unfurnished
from tests.servers import postgres_server, valkey_server
from tests.service.stand_in import whoami_server


def main() -> int:
    """Run it."""
    logging.disable()  # the suite provokes what is worth a line anywhere else
    folder = Path(mkdtemp(prefix="holdfast-conformance-"))
    console = Console(highlight=False)
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server(folder / "postgres"))
        revisions.upgrade(database)
        settings = Settings.model_validate(
            {
                "HOLDFAST_DATABASE_URL": database,
                "HOLDFAST_REDIS_URL": stack.enter_context(valkey_server(folder / "valkey")),
                "hub_url": stack.enter_context(whoami_server()).url,
                "vault_keys": f"1:{base64.b64encode(os.urandom(32)).decode()}",
                "data_dir": str(folder),
                "calls_per_minute": 0,
            }
        )
        edge = stack.enter_context(furnished(settings))
        service = stack.enter_context(our_service(settings))
        runs: dict[str, tuple[Found, Found]] = {
            revision: (
                suite.run(edge, revision, folder / f"{revision}-edge"),
                suite.run(service, revision, folder / f"{revision}-service"),
            )
            for revision in suite.REVISIONS
        }
    wrong = [
        f"{revision}: {said}"
        for revision, found in runs.items()
        for said in [*wrongs(revision, found[0]), *wrongs_unfurnished(revision, found[1])]
    ]
    console.print(Markdown(report(runs)))
    console.print(f"Every answer is in {folder}.", *wrong, sep="\n", markup=False)
    return 1 if wrong else 0
