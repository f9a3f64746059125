"""`upload_file` of the bridge: a file of this machine, sent to the real service."""

import hashlib
import os
from collections.abc import Generator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from starlette.responses import JSONResponse

from service.cli.stdio.file_upload import FileUpload
from service.cli.stdio.messages import ServerMessage, build_client_message
from service.cli.stdio.service_client import ServiceClient, Target, open_http_client
from service.cli.stdio.shared_folders import SharedFolders
from tests.service.cli.stdio.test_scripted_service import ScriptedServer
from tests.support.http_server import serve_app
from tests.support.stack import McpCaller
from tests.support.stdio import StdioProcess, connect_stdio, run_stdio

CONTENT: Final = os.urandom(3_000_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "train.bin").write_bytes(CONTENT)
    return shared


@pytest.fixture
def bridge(alice: McpCaller, folder: Path, tmp_path: Path) -> Generator[StdioProcess]:
    """A bridge that may send from it."""
    with run_stdio(
        alice.connection.url,
        "--allow-folder",
        str(folder),
        log=tmp_path / "stdio.log",
        environment={"HOLDFAST_TOKEN": alice.connection.token or ""},
    ) as running:
        yield running


def upload(bridge: StdioProcess, **arguments: Any) -> Any:
    """Call the tool, and return its result."""
    return bridge.ask("tools/call", {"name": "upload_file", "arguments": arguments})["result"]


def read_text(result: Any) -> str:
    """Return the text of a result."""
    return str(result["content"][0]["text"])


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_file_of_this_machine_becomes_a_handle(
    alice: McpCaller, folder: Path, tmp_path: Path, mode: Literal["legacy", "auto"]
) -> None:
    """In the text and in the fields, with progress on the way, in both revisions."""
    heard: list[tuple[float, float | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total))

    async with connect_stdio(
        [alice.connection.url, "--allow-folder", str(folder)],
        log=tmp_path / "stdio.log",
        mode=mode,
        environment={"HOLDFAST_TOKEN": alice.connection.token or ""},
    ) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool(
            "upload_file", {"path": "train.bin"}, progress_callback=hear
        )

    assert names.count("upload_file") == 1
    assert not result.is_error, result.content
    fields = result.structured_content
    assert fields is not None
    assert fields["upload_id"].startswith("upload_")
    assert (fields["name"], fields["size_bytes"]) == ("train.bin", len(CONTENT))
    assert fields["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert fields["upload_id"] in str(result.content)
    assert heard[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(heard) == heard


def test_without_a_folder_there_is_no_such_tool(alice: McpCaller, tmp_path: Path) -> None:
    """Whoever named none shares none."""
    with run_stdio(
        alice.connection.url,
        log=tmp_path / "stdio.log",
        environment={"HOLDFAST_TOKEN": alice.connection.token or ""},
    ) as bridge:
        tools = bridge.ask("tools/list")["result"]["tools"]
        answer = bridge.ask("tools/call", {"name": "upload_file", "arguments": {"path": "x"}})

    assert "upload_file" not in {tool["name"] for tool in tools}
    assert "result" not in answer


def test_what_is_refused_is_an_error_of_the_tool_that_says_what_to_do(
    bridge: StdioProcess, folder: Path
) -> None:
    """Paths, arguments, and what the service does not take; the bridge goes on."""
    (folder / "empty").touch()
    with (folder / "huge").open("wb") as huge:
        huge.truncate(2 * 1024**3)  # a file of holes
    refusals = [
        upload(bridge, path="/etc/passwd"),
        upload(bridge, path="https://a.example/x"),
        upload(bridge, path="empty"),
        upload(bridge, path="huge"),
        upload(bridge),
        upload(bridge, path=17),
        upload(bridge, path="train.bin", folder="x"),
        upload(bridge, path="train.bin", workspace_id="ws_none"),
        upload(bridge, path="train.bin", media_type="image/png"),
    ]

    assert [refusal["isError"] for refusal in refusals] == [True] * len(refusals)
    assert all("structuredContent" not in refusal for refusal in refusals)
    assert "209,715,200" in read_text(refusals[3])
    assert not upload(bridge, path="train.bin").get("isError")


class _OneService:
    """Always the same service."""

    is_on_this_machine = True

    def __init__(self, caller: McpCaller) -> None:
        self._target = Target(f"{caller.connection.url}/mcp", caller.connection.headers)

    async def find_target(self) -> Target:
        return self._target


async def test_a_file_that_is_written_while_it_is_sent_is_not_stored(
    alice: McpCaller, folder: Path
) -> None:
    """Half of the old and half of the new would be a file that nobody had."""
    file = folder / "train.bin"
    answers: list[ServerMessage] = []

    async def deliver(sent: ServerMessage) -> None:
        if sent.is_answer:
            answers.append(sent)
        else:
            change(file)

    params = {
        "name": "upload_file",
        "arguments": {"path": "train.bin"},
        "_meta": {"progressToken": 1},
    }
    async with open_http_client(on_this_machine=True) as http:
        tool = FileUpload(SharedFolders([folder]), ServiceClient(http, _OneService(alice)))
        await tool.call_tool(build_client_message("tools/call", 1, params), deliver)

    [answer] = answers
    assert isinstance(answer.fields, dict)
    assert answer.fields["result"]["isError"]
    assert "was written while it was sent" in answer.line


def change(file: Path) -> None:
    """Overwrite the beginning of a file; its length stays."""
    with file.open("r+b") as opened:
        opened.write(b"another beginning")


@pytest.mark.parametrize("place", ["{thief}/x", "http://user@{host}/x", "file:///etc/passwd", "x"])
def test_a_file_goes_nowhere_else(folder: Path, tmp_path: Path, place: str) -> None:
    """A service that was broken into could have it sent to whoever asks."""
    thief, service = ScriptedServer(), ScriptedServer()
    with serve_app(thief) as elsewhere, serve_app(service) as url:
        link: dict[str, Any] = {
            "url": place.format(thief=elsewhere, host=url.removeprefix("http://")),
            "method": "PUT",
            "headers": {},
        }
        result: dict[str, Any] = {"content": [], "structuredContent": link}
        service.answer_with(
            lambda: JSONResponse({"jsonrpc": "2.0", "id": "upload_file-1", "result": result})
        )
        arguments = (url, "--allow-folder", str(folder))
        with run_stdio(*arguments, log=tmp_path / "stdio.log") as bridge:
            refused = upload(bridge, path="train.bin")

    assert refused["isError"]
    assert "nowhere else" in read_text(refused)
    assert thief.bodies == []
    assert len(service.bodies) == 1


def test_a_service_decides_no_headers_of_the_request(folder: Path, tmp_path: Path) -> None:
    """Neither the host nor the length; and the token is not sent to where the link leads."""
    service = ScriptedServer()
    with serve_app(service) as url:
        link: dict[str, Any] = {
            "url": f"{url}/uploads/x",
            "method": "PUT",
            "headers": {"Host": "evil", "Content-Length": "1", "Authorization": "x", "X-A": "b"},
        }
        result: dict[str, Any] = {"content": [], "structuredContent": link}
        service.answer_with(
            lambda: JSONResponse(
                {"jsonrpc": "2.0", "id": "upload_file-1", "result": result}, HTTPStatus.OK
            )
        )
        arguments = (url, "--allow-folder", str(folder))
        with run_stdio(
            *arguments, log=tmp_path / "stdio.log", environment={"HF_TOKEN": "hf_x"}
        ) as bridge:
            refused = upload(bridge, path="train.bin")

    _, headers = service.headers
    assert refused["isError"]
    assert headers["content-length"] == str(len(CONTENT))
    assert headers["host"] == url.removeprefix("http://")
    assert headers["x-a"] == "b"
    assert "authorization" not in headers
    assert service.bodies[1] == CONTENT
