"""The `holdfast` command line, which `python3 -m service` runs too.

Each command imports what it needs when it runs, so that a worker does not wait until the tools of
the service are loaded. `serve` and `worker` load nothing of `service.local`, which only
`service.cli.local` and `service.cli.stdio.local_stack` import, and the production image has none of
it.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from rich.console import Console

from schema.common.errors import HoldfastError, Unavailable
from schema.common.http import DEFAULT_PORT
from schema.common.process.imports import no_collections
from service.cli.options import (
    COMMAND,
    DEFAULT_DATA_DIR,
    names_database,
    parse_base_url,
    parse_data_dir,
    parse_port,
    parse_port_or_zero,
    parse_service_url,
    parse_token,
)

_PROJECT_ROOT: Final = Path(__file__).resolve().parents[2]


class LocalStackMissing(HoldfastError):
    """The command needs `service.local`, which this installation leaves out."""

    def __init__(self, command: str, remedy: str) -> None:
        super().__init__(
            f"`holdfast {command}` needs the local stack, which this image leaves out: {remedy}."
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names, and return the exit code.

    Args:
        argv: the arguments after the program's name; None takes them from `sys.argv`.
    """
    argv = sys.argv[1:] if argv is None else argv
    # argparse would read pytest's options as its own, and refuse them.
    own, pytest_arguments = (argv[:1], argv[1:]) if argv[:1] == ["test"] else (argv, [])
    parser = _build_parser(own[0] if own else None)
    if not own:
        parser.print_help(sys.stderr)
        return 2
    options = parser.parse_args(own)
    options.pytest_arguments = pytest_arguments
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except Unavailable as error:
        _print_error(f"{error} `{COMMAND} doctor` says what cannot be reached.")
        return 1
    except HoldfastError as error:
        _print_error(f"{error}")
        return 1
    except OSError as error:
        if error.filename is None:
            raise  # not about a file that a person has named
        _print_error(_describe_file_error(error))
        return 1
    except KeyboardInterrupt:
        return 130


def _print_error(sentence: str) -> None:
    # Wrapped by the terminal alone, so that a long path can be copied whole.
    Console(stderr=True).print(sentence, style="red", soft_wrap=True, highlight=False, markup=False)


def _describe_file_error(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return (
            f"This account may not use {error.filename}. Run Holdfast as the account that owns it, "
            f"or choose another folder with --data."
        )
    return f"{error.filename} cannot be used: {error.strerror}. Choose another folder with --data."


def _build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """Build the parser of the command line; the arguments of a command only if it was chosen."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="The backend an AI assistant hands its long work to.",
        epilog="Start with `demo`: it needs nothing but Python, and shows a job from end to end.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str,
        run: Callable[[argparse.Namespace], int],
        add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
    ) -> None:
        summary = (run.__doc__ or "").split("\n")[0]
        subparser = commands.add_parser(name, help=summary, description=summary)
        subparser.set_defaults(run=run)
        if add_arguments is not None and name == chosen:
            add_arguments(subparser)

    command("demo", _run_demo, _add_data_option)
    command("up", _run_up, _add_up_arguments)
    command("serve", _run_serve, _add_serve_arguments)
    command("worker", _run_worker, _add_worker_arguments)
    command("status", _run_status)
    command("stats", _run_stats, _add_stats_arguments)
    command("migrate", _run_migrate)
    command("backup", _run_backup, _add_backup_arguments)
    command("restore", _run_restore, _add_restore_arguments)
    command("reconcile", _run_reconcile, _add_reconcile_arguments)
    command("vault", _run_vault, _add_vault_arguments)
    command("subject", _run_subject, _add_subject_arguments)
    command("export", _run_export, _add_export_arguments)
    command("forget", _run_forget, _add_forget_arguments)
    command("hub", _run_hub, _add_hub_arguments)
    command("doctor", _run_doctor, _add_doctor_arguments)
    command("connect", _run_connect, _add_connect_arguments)
    command("stdio", _run_stdio, _add_stdio_arguments)
    command("test", _run_test)
    return parser


def _add_data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=parse_data_dir, default=DEFAULT_DATA_DIR, help="the folder for all data"
    )


def _add_up_arguments(parser: argparse.ArgumentParser) -> None:
    _add_data_option(parser)
    parser.add_argument(
        "--hub", type=parse_base_url, metavar="URL", help="a real Hub instead of the local one"
    )
    parser.add_argument(
        "--port", type=parse_port, help=f"where to serve ({DEFAULT_PORT}, or a free one)"
    )


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 in a container")
    parser.add_argument("--port", type=parse_port, default=DEFAULT_PORT)


def _add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--probe", action="store_true", help="say whether the worker of this host is alive"
    )


def _add_stats_arguments(parser: argparse.ArgumentParser) -> None:
    from service.cli import stats

    stats.add_arguments(parser)


def _add_backup_arguments(parser: argparse.ArgumentParser) -> None:
    from service.cli.backups import backup

    backup.add_backup_arguments(parser)


def _add_restore_arguments(parser: argparse.ArgumentParser) -> None:
    from service.cli.backups import backup

    backup.add_restore_arguments(parser)


def _add_reconcile_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cancel", action="store_true", help="cancel jobs at the Hub that the backup does not have"
    )
    parser.add_argument("--dry-run", action="store_true", help="show them, and change nothing")


def _add_vault_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["rotate"], help="seal everything with the first key")


def _add_subject_arguments(parser: argparse.ArgumentParser) -> None:
    from service.cli import subjects

    subjects.add_arguments(parser)


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    from service.cli import personal_data

    personal_data.add_export_arguments(parser)


def _add_forget_arguments(parser: argparse.ArgumentParser) -> None:
    from service.cli import personal_data

    personal_data.add_forget_arguments(parser)


def _add_hub_arguments(parser: argparse.ArgumentParser) -> None:
    _add_data_option(parser)
    parser.add_argument(
        "--port", type=parse_port_or_zero, default=0, help="a free one unless given"
    )


def _add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=parse_data_dir,
        help="the folder of an `up` that runs (.holdfast, unless the environment names a database)",
    )


def _add_connect_arguments(parser: argparse.ArgumentParser) -> None:
    _add_data_option(parser)
    parser.add_argument(
        "--url", type=parse_service_url, help="URL of the service (that of --data unless given)"
    )
    parser.add_argument(
        "--token", type=parse_token, help="token for the client (without one it signs in)"
    )


def _add_stdio_arguments(parser: argparse.ArgumentParser) -> None:
    from service.cli.stdio import command

    command.add_arguments(parser)


def _run_demo(options: argparse.Namespace) -> int:
    """Run everything on this machine, show one job from launch to result, and stop."""
    _require_local_stack("demo")
    with no_collections():
        from service.cli import local

    return local.run_demo(options)


def _run_up(options: argparse.Namespace) -> int:
    """Run everything on this machine until Ctrl-C."""
    _require_local_stack("up")
    with no_collections():
        from service.cli import local

    return local.run_up(options)


def _run_hub(options: argparse.Namespace) -> int:
    """Run the local Hub: jobs as processes of this machine, on the loopback address only."""
    _require_local_stack("hub")
    with no_collections():
        from service.cli import local

    return local.run_hub(options)


def _run_connect(options: argparse.Namespace) -> int:
    """Print what to paste into Claude, ChatGPT, Codex, Cursor, Gemini CLI or VS Code."""
    from service.cli.stdio.installation import find_program
    from service.web.client_config import Connection, build_client_configs, build_local_config

    if options.url:
        connection, data_dir = Connection(options.url, options.token), None
    else:
        _require_local_stack("connect", remedy="name the service with --url")
        from service.cli import local

        data_dir = options.data
        connection = local.find_local_connection(data_dir, options.token)
    configs = build_client_configs(connection, find_program())
    if data_dir is not None:
        configs.append(build_local_config(data_dir, find_program()))
    console = Console()
    for config in configs:
        console.print(f"[bold]{config.client}[/], {config.location}:", highlight=False)
        # No wrapping: the text is there to be pasted.
        console.print(config.text, soft_wrap=True, highlight=False, markup=False)
        console.print()
    return 0


def _run_stdio(options: argparse.Namespace) -> int:
    """Speak MCP on standard input and output, for a client that only starts programs."""
    if options.local:
        _require_local_stack("stdio --local", remedy="name a service with its URL")
    with no_collections():
        from service.cli.stdio import command

    return command.run_stdio(options)


def _require_local_stack(command: str, *, remedy: str | None = None) -> None:
    """Check that this installation has `service.local`.

    Args:
        command: what the person has typed.
        remedy: what to do instead; None is to run the command in a clone.

    Raises:
        LocalStackMissing: it has not, as in the production image.
    """
    if find_spec("service.local") is None:
        raise LocalStackMissing(
            command, remedy or f"run `python3 -m service {command}` in a clone of the project"
        )


def _run_serve(options: argparse.Namespace) -> int:
    """Serve the MCP tools over HTTP."""
    with no_collections():
        from service.cli.server import serve

    serve(options.host, options.port)
    return 0


def _run_worker(options: argparse.Namespace) -> int:
    """Run jobs at the Hub."""
    # A process of its own kind: the service never imports the workers.
    arguments = ["--probe"] if options.probe else []
    os.execv(sys.executable, [sys.executable, "-m", "workers", *arguments])  # noqa: S606  # becoming it is the point


def _run_migrate(_: argparse.Namespace) -> int:
    """Bring the database to the revision this code is written for."""
    from schema.common.observability import log_config
    from schema.db import revisions
    from schema.settings import Settings

    log_config.configure_logging()
    revision = revisions.upgrade_to_revision(str(Settings.from_env().database_url))
    is_newer = revision != revisions.head_revision()
    suffix = " of a later release, and this one runs on it" if is_newer else ""
    Console().print(f"The database is at revision {revision}{suffix}.", highlight=False)
    return 0


def _run_backup(options: argparse.Namespace) -> int:
    """Write all rows of the database to an encrypted file."""
    from schema.common.observability import log_config
    from schema.settings import Settings
    from service.cli.backups import backup

    log_config.configure_logging()
    backup.run_backup(options, Settings.from_env())
    return 0


def _run_restore(options: argparse.Namespace) -> int:
    """Read a backup into an empty database; nothing is launched until it is reconciled."""
    from schema.common.observability import log_config
    from schema.settings import Settings
    from service.cli.backups import backup

    log_config.configure_logging()
    backup.run_restore(options, Settings.from_env())
    return 0


def _run_reconcile(options: argparse.Namespace) -> int:
    """Compare a restored database with the jobs at the Hub."""
    flags = {"--cancel": options.cancel, "--dry-run": options.dry_run}
    arguments = ["reconcile", *(flag for flag, is_set in flags.items() if is_set)]
    os.execv(sys.executable, [sys.executable, "-m", "workers", *arguments])  # noqa: S606  # as for `worker`


def _run_vault(_: argparse.Namespace) -> int:
    """Seal all tokens and secrets again with the first key of HOLDFAST_VAULT_KEYS."""
    import anyio

    from schema.common.observability import log_config
    from schema.settings import Settings
    from service.cli import key_rotation

    log_config.configure_logging()
    return anyio.run(key_rotation.run_rotation, Settings.from_env(), Console(highlight=False))


def _run_subject(options: argparse.Namespace) -> int:
    """Show people; limit, hold or release the jobs of one."""
    import anyio

    from schema.common.observability import log_config
    from schema.settings import Settings
    from service.cli import subjects

    log_config.configure_logging()
    settings, console = Settings.from_env(), Console(highlight=False)
    anyio.run(subjects.run_action, options, settings, console)
    return 0


def _run_export(options: argparse.Namespace) -> int:
    """Write all that is stored of a person into a zip archive."""
    import anyio

    from schema.common.observability import log_config
    from schema.settings import Settings
    from service.cli import personal_data

    log_config.configure_logging()
    settings, console = Settings.from_env(), Console(highlight=False)
    anyio.run(personal_data.export_subject, options, settings, console)
    return 0


def _run_forget(options: argparse.Namespace) -> int:
    """Delete all that is stored of a person."""
    import anyio

    from schema.common.observability import log_config
    from schema.settings import Settings
    from service.cli import personal_data

    log_config.configure_logging()
    settings, console = Settings.from_env(), Console(highlight=False)
    anyio.run(personal_data.forget_subject, options, settings, console)
    return 0


def _run_doctor(options: argparse.Namespace) -> int:
    """Say what is wrong with this installation, or with the stack that runs on a data folder."""
    import anyio

    from service.cli import doctor

    if options.data is not None:
        _require_local_stack("doctor", remedy="leave --data out")
    stack_environment = None
    is_local = options.data is not None or not names_database()
    if is_local and find_spec("service.local") is not None:
        from service.cli import local

        stack_environment = local.find_stack_environment(options.data)
    findings = anyio.run(doctor.run_checks, stack_environment)
    doctor.print_findings(Console(), findings)
    return 0 if all(finding.is_ok for finding in findings) else 1


def _run_status(_: argparse.Namespace) -> int:
    """Show workers, queues, holds, upstream and last errors."""
    import anyio

    from schema.settings import Settings
    from service.cli.status import show_status

    anyio.run(show_status, Settings.from_env(), Console())
    return 0


def _run_stats(options: argparse.Namespace) -> int:
    """Show what the database takes up on disk, by table and by kind of job."""
    import anyio

    from schema.settings import Settings
    from service.cli import stats

    anyio.run(stats.show_stats, options, Settings.from_env(), Console(highlight=False))
    return 0


def _run_test(options: argparse.Namespace) -> int:
    """Run every test; what follows goes to pytest, such as `-k NAME -x`."""
    workers = str((os.cpu_count() or 1) + 1)  # one more, because some tests wait for processes
    distribution = ["-n", workers, "--dist", "loadgroup"]
    command = [sys.executable, "-m", "pytest", *distribution, *options.pytest_arguments]
    return subprocess.run(command, cwd=_PROJECT_ROOT, check=False).returncode
