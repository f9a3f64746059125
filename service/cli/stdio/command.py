"""The command `stdio`: its options, and the bridge to the service that they name."""

import argparse
import sys
from contextlib import suppress
from functools import partial

import anyio

from schema.common.errors import Invalid
from schema.common.http import is_secure_url
from service.cli.options import (
    DEFAULT_DATA_DIR,
    parse_base_url,
    parse_data_dir,
    parse_file_path,
    parse_service_url,
)
from service.cli.stdio.bridge import Bridge
from service.cli.stdio.file_upload import FileUpload
from service.cli.stdio.service_client import (
    ExchangeFailed,
    ServiceClient,
    Target,
    TargetFinder,
    open_http_client,
)
from service.cli.stdio.shared_folders import SharedFolders
from service.cli.stdio.streams import claim_standard_streams, open_lines
from service.cli.stdio.tokens import TokenSource


class RemoteService:
    """The service that a URL names, and the token that the caller has now."""

    def __init__(self, url: str, tokens: TokenSource, choices: dict[str, str]) -> None:
        """Name a service.

        Args:
            url: without the path of the MCP endpoint.
            tokens: who calls.
            choices: headers that choose tools.
        """
        self.is_on_this_machine = url.startswith("http:") and is_secure_url(url)
        self._endpoint = f"{url}/mcp"
        self._tokens = tokens
        self._choices = choices

    async def find_target(self) -> Target:
        """Return the service with the token that is there now.

        Raises:
            ExchangeFailed: the file with the token cannot be read.
        """
        try:
            headers = self._tokens.read_headers()
        except Invalid as error:
            raise ExchangeFailed(str(error), code="no_token") from None
        return Target(self._endpoint, {**headers, **self._choices}, self._tokens.advice)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.allow_abbrev = False  # `--token SECRET` would name a file
    parser.add_argument("--token", help=argparse.SUPPRESS)
    parser.add_argument(
        "url", nargs="?", type=parse_service_url, metavar="URL", help="the service to call"
    )
    parser.add_argument("--url", dest="url_option", type=parse_service_url, help="the same")
    parser.add_argument(
        "--local", action="store_true", help="run everything on this machine, as `up` does"
    )
    parser.add_argument(
        "--data",
        type=parse_data_dir,
        default=DEFAULT_DATA_DIR,
        help="with --local: the folder for all data",
    )
    parser.add_argument(
        "--hub", type=parse_base_url, metavar="URL", help="with --local: a real Hub"
    )
    parser.add_argument(
        "--token-file",
        type=parse_file_path,
        metavar="FILE",
        help="a file with the token (else that of HOLDFAST_TOKEN or HF_TOKEN)",
    )
    parser.add_argument(
        "--send-hf-token",
        action="store_true",
        help="send that of HF_TOKEN as X-HF-Authorization too",
    )
    parser.add_argument("--toolsets", metavar="NAMES", help="only these tools, such as jobs,files")
    parser.add_argument("--readonly", action="store_true", help="only tools that read")
    parser.add_argument(
        "--allow-folder",
        type=parse_data_dir,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder whose files upload_file may send; may be repeated",
    )


def run_stdio(options: argparse.Namespace) -> int:
    """Run `holdfast stdio` until its input ends.

    Raises:
        Invalid: the options name no service, or more than one, or have a token, or a folder cannot
            be shared.
    """
    if options.token is not None:
        raise Invalid(
            "Every account of this machine can read the arguments of a program, so a token is no "
            "argument. Put it into the variable HOLDFAST_TOKEN, or into a file for --token-file."
        )
    url: str | None = options.url or options.url_option
    if options.url and options.url_option:
        raise Invalid("The service is named twice. Name it once.")
    if bool(url) == bool(options.local):
        raise Invalid(
            "Name the service to call, such as `holdfast stdio https://holdfast.example`, or run "
            "everything on this machine with --local."
        )
    if options.hub and not options.local:
        raise Invalid("--hub is for --local: a service that runs has its Hub already.")
    tokens = TokenSource(options.token_file, options.send_hf_token)
    tokens.read_headers()
    secrets = [options.token_file] if options.token_file else []
    folders = SharedFolders(
        options.allow_folder, excluded=[*secrets, *([options.data] if options.local else [])]
    )
    run = partial(_serve, folders=folders)
    choices = _read_choices(options)
    if url is None:
        from service.cli.stdio import local_stack  # noqa: PLC0415  # the image has none of it

        return local_stack.run_beside_stack(options, tokens, choices, run, report)
    service = RemoteService(url, tokens, choices)
    if not is_secure_url(url) and tokens.read_headers():
        report(f"{url} is not https://, so the token crosses the network in the open.")
    anyio.run(run, service)
    return 0


def report(sentence: str) -> None:
    """Write a line for the person who reads the client's log."""
    with suppress(OSError):
        sys.stderr.write(f"holdfast stdio: {sentence}\n")
        sys.stderr.flush()


async def _serve(targets: TargetFinder, *, folders: SharedFolders) -> None:
    source, sink = claim_standard_streams()
    async with (
        open_http_client(on_this_machine=targets.is_on_this_machine) as http,
        open_lines(source, sink) as (lines, answers),
    ):
        service = ServiceClient(http, targets)
        # Whoever named no folder has no such tool.
        uploads = FileUpload(folders, service) if folders.paths else None
        await Bridge(service, answers.send, report, uploads).run(lines)


def _read_choices(options: argparse.Namespace) -> dict[str, str]:
    choices: dict[str, str] = {}
    if options.toolsets is not None:
        choices["x-mcp-toolsets"] = options.toolsets
    if options.readonly:
        choices["x-mcp-readonly"] = "true"
    return choices
