"""`holdfast subject`, as an operator uses it."""

import argparse
from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from schema.accounts import operator_actions
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


async def test_an_operator_limits_a_kind_and_goes_back_to_the_settings(
    database: Database, make_settings: Callable[..., Settings], ada_id: str
) -> None:
    """What is shown is what counts: the limit of the person, or else that of the settings."""
    settings = make_settings()
    async with database.transaction() as tx:
        await operator_actions.save_default_limits(
            tx, max_active=40, max_active_by_kind={"batch": 3}
        )

    listed = await run_command(settings, "list")
    kind_limited = await run_command(settings, "limit", "ada", "12", "--kind", "batch")
    other_limited = await run_command(settings, "limit", "ada", "0", "--kind", "inference")
    limited = await run_command(settings, "limit", "ada", "7")
    kind_reset = await run_command(settings, "limit", ada_id, "default", "--kind", "batch")
    other_reset = await run_command(settings, "limit", "ada", "default", "--kind", "inference")
    reset = await run_command(settings, "limit", "ada", "default")

    assert " 40 " in listed
    assert "batch 3 " in listed
    assert "batch 12 " in kind_limited
    assert "Of kind batch, 12 jobs of theirs may run at a time." in kind_limited
    assert "batch 12 " in other_limited
    assert "inference 0 " in other_limited
    assert " 40 " not in limited
    assert " 7 " in limited
    assert "batch 3 " in kind_reset
    assert "inference" not in other_reset.partition("There is no limit")[0]
    assert "There is no limit of their jobs of kind inference alone." in other_reset
    assert " 40 " in reset
    async with database.transaction() as tx:
        facts = await tx.fetch(
            "SELECT facts FROM audit_entry WHERE action = 'subject_limited' ORDER BY id LIMIT 4"
        )
    assert [row["facts"] for row in facts] == [
        {"kind": "batch", "max_active": 12},
        {"kind": "inference", "max_active": 0},
        {"max_active": 7},
        {"kind": "batch", "max_active": None},
    ]


def test_a_kind_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A limit of it would limit nothing, and nobody would notice."""
    parser = argparse.ArgumentParser()
    subjects.add_arguments(parser)

    with pytest.raises(SystemExit):
        parser.parse_args(["limit", "ada", "3", "--kind", "hub-job"])

    error = capsys.readouterr().err
    assert "write one of hub_job, inference, batch, space_call, not 'hub-job'" in error
    assert "Did you mean" in error


@pytest.mark.parametrize("limit", ["-1", "x", "1000000"])
def test_a_limit_is_a_number_of_jobs(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal says which numbers there are."""
    parser = argparse.ArgumentParser()
    subjects.add_arguments(parser)

    with pytest.raises(SystemExit):
        parser.parse_args(["limit", "ada", "--", limit])

    assert "from 0 to 100,000, or default" in capsys.readouterr().err
