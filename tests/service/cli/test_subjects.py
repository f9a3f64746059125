"""`holdfast subject`, as an operator uses it."""

import argparse
from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from schema.db.database import Database
from schema.settings import Settings
from service.cli import subjects
from service.cli.options import COMMAND
from service.cli.subjects import NoSuchSubject
from tests.support.factories import JobFactory


async def run_command(settings: Settings, *words: str) -> str:
    """Run the command with its arguments, and return what it prints."""
    parser = argparse.ArgumentParser()
    subjects.add_arguments(parser)
    output = StringIO()
    await subjects.run_action(
        parser.parse_args(words), settings, Console(file=output, width=120, highlight=False)
    )
    return output.getvalue()


async def test_an_operator_limits_holds_and_releases_a_person(
    database: Database, make_settings: Callable[..., Settings], make_job: JobFactory, ada_id: str
) -> None:
    """Each answer shows the person as they are then, and what follows."""
    settings = make_settings()
    await make_job()

    listed = await run_command(settings, "list")
    limited = await run_command(settings, "limit", "ada", "7")
    held = await run_command(settings, "hold", ada_id)
    held_again = await run_command(settings, "hold", "ada")
    shown = await run_command(settings, "show", "ada")
    released = await run_command(settings, "release", "ada")

    assert ada_id in listed
    assert " 7 " in limited
    assert f"{COMMAND} subject release {ada_id}" in held
    assert "operator" in shown
    assert "held already" in held_again
    assert "1 queued job can be launched now." in released
    assert "operator" not in released


async def test_a_person_who_cannot_be_told_is_named_by_their_id(
    database: Database, make_settings: Callable[..., Settings], ada_id: str
) -> None:
    """Nothing is done to somebody else of the same name."""
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ('b', 'ada')")

    with pytest.raises(NoSuchSubject, match=rf"Several have the name ada; .*{ada_id}, b"):
        await run_command(make_settings(), "hold", "ada")
    with pytest.raises(NoSuchSubject, match=r"Nobody here .* eve; `.* subject list` shows"):
        await run_command(make_settings(), "hold", "eve")


@pytest.mark.parametrize("limit", ["-1", "x", "1000000"])
def test_a_limit_is_a_number_of_jobs(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal says which numbers there are."""
    parser = argparse.ArgumentParser()
    subjects.add_arguments(parser)

    with pytest.raises(SystemExit):
        parser.parse_args(["limit", "ada", "--", limit])

    assert "from 0 to 100,000" in capsys.readouterr().err
