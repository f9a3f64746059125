"""Nothing a user writes is ever taken for the name of a file here, or for a URL to be opened.

The client libraries do so readily: a text in place of audio is a path to them, and a script a file
to be uploaded. So only what is known not to is used of them, and that is tried.
"""

import ast
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

import service.local
from schema.specs.inference import Task
from service.cli.backups import bucket_file
from tests.support.paths import PACKAGE_FOLDERS, REPOSITORY
from workers.inference import provider_requests
from workers.inference.provider_requests import InvalidProviderRequest, build_provider_request

EMULATOR_FOLDER: Final = Path(service.local.__file__).resolve().parent
OUR_SOURCE_FILES: Final = [
    path
    for folder in PACKAGE_FOLDERS
    for path in sorted(folder.rglob("*.py"))
    if EMULATOR_FOLDER not in path.parents and path != Path(bucket_file.__file__)
]
"""All but the emulated Hub, and the transfer of backups, whose names are typed by an operator."""

TASKS: Final[tuple[str, ...]] = get_args(get_args(Task)[0])

ALLOWED_IMPORTS: Final = {
    "huggingface_hub": {"HfUri", "JobHardware", "constants", "parse_hf_uri"},
    "huggingface_hub.constants": {"HF_URI_TYPE_PREFIXES", "HfUriType"},
    "huggingface_hub.errors": {"HfHubHTTPError", "HfUriError"},
    "huggingface_hub.hf_api": {"InferenceProviderMapping"},
    "huggingface_hub.inference._common": {"MimeBytes"},
    "huggingface_hub.inference._providers": {"PROVIDERS"},
    "huggingface_hub.utils._hf_uris": {"HfMount", "parse_hf_mount"},
    "huggingface_hub.utils._http": {
        *("async_hf_request_event_hook", "async_hf_response_event_hook"),
        *("hf_raise_for_status", "parse_ratelimit_headers"),
    },
}
"""What is used of the library; each has been read, and opens nothing that a text names."""
FORBIDDEN_MODULES: Final = frozenset(
    {"urllib.request", "requests", "httpx", "aiohttp", "gradio_client", "fsspec", "datasets", "PIL"}
)
FORBIDDEN_NAMES: Final = frozenset(
    {"run_uv_job", "upload_file", "upload_folder", "InferenceClient", "AsyncInferenceClient"}
    | {"urlopen", "urlretrieve", "HfFileSystem", "hf_hub_download", "handle_file"}
)


def find_imports(tree: ast.Module) -> Generator[tuple[str, str]]:
    """Yield each module that is imported, and what of it; `*` is all of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, "*") for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", name.name) for name in node.names)


def find_names(tree: ast.Module) -> set[str]:
    """Return every name and attribute that is used."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return used | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_nothing_that_opens_what_a_text_names_is_used() -> None:
    """Whoever uses more of a library reads first what it does with a text, and adds it here."""
    violations: list[str] = []
    for path in OUR_SOURCE_FILES:
        tree = ast.parse(path.read_text())
        for module, name in find_imports(tree):
            top = module.partition(".")[0]
            unknown = top == "huggingface_hub" and name not in ALLOWED_IMPORTS.get(module, set())
            if unknown or {module, top, f"{module}.{name}"} & FORBIDDEN_MODULES:
                violations.append(f"{path.relative_to(REPOSITORY)}: {module}.{name}")
        violations += [
            f"{path.relative_to(REPOSITORY)}: {name}" for name in find_names(tree) & FORBIDDEN_NAMES
        ]

    assert violations == []
    assert len(OUR_SOURCE_FILES) > 100, "hardly anything was looked at, so nothing was shown"


class OpenAuditor:
    """Hears of every file that this process opens, and every host that it connects to."""

    def __init__(self) -> None:
        self.is_recording = False
        self.events: list[str] = []
        sys.addaudithook(self.record)  # which cannot be taken away again, so it is made once

    def record(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.is_recording and event in {"open", "socket.connect", "socket.getaddrinfo"}:
            self.events.append(f"{event} {arguments[:2]}")


OPEN_AUDITOR: Final = OpenAuditor()
INPUT_PARAMETERS: Final[tuple[str, ...]] = (
    "image",
    "images",
    "mask_image",
    "audio",
    "image_url",
    "prompt",
)
MODEL: Final = {"hf_model_id": "ada/m", "providerId": "m", "status": "live"}


def test_no_adapter_of_any_provider_opens_what_a_text_names(tmp_path: Path) -> None:
    """As an input, and as a parameter of any name, it is a text, or is refused."""
    canary = tmp_path / "canary"
    canary.write_text("the canary sings")
    tried, written = 0, ""
    OPEN_AUDITOR.is_recording = True
    try:
        for text in (str(canary), f"file://{canary}", f"http://127.0.0.1:9{canary}"):
            parameters = {str(name): text for name in INPUT_PARAMETERS}
            for task, provider in (
                (t, p) for t in TASKS for p in provider_requests.providers_for_task(t)
            ):
                for inputs in (text, [text]):
                    with suppress(InvalidProviderRequest):
                        written += str(
                            build_provider_request(provider, task, inputs, parameters, **MODEL)
                        )
                        tried += 1
    finally:
        OPEN_AUDITOR.is_recording = False

    assert [each for each in OPEN_AUDITOR.events if "canary" in each or "127.0.0.1" in each] == []
    assert "sings" not in written
    assert "dGhlIGNhbmFyeSBzaW5nc" not in written
    assert tried > 100, "hardly any was tried, so nothing was shown"
