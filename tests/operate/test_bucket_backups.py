"""`holdfast backup` and `holdfast restore` with a file in a bucket, as processes of their own."""

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from anyio import to_thread
from huggingface_hub import HfApi, get_session
from huggingface_hub.utils.tqdm import are_progress_bars_disabled
from starlette.types import Receive, Scope, Send

from service.cli.backups.bucket_file import BucketFile, open_transfer
from service.cli.main import main
from service.local.hub_emulator.app import create_hub_emulator
from service.local.hub_emulator.users import LocalTokenKind, LocalUser, find_user, load_users
from service.local.ports import find_free_port
from tests.operate.test_backup_command import count_jobs, grant_roles, list_names
from tests.support.database.row_security import create_login
from tests.support.factories import JobFactory
from tests.support.http_server import serve_app
from tests.support.jobs.output_runs import FailingHub
from tests.support.paths import REPOSITORY
from tests.support.polling import wait_until

BUCKET: Final = "alice/backups"
PLACE: Final = f"hf://buckets/{BUCKET}/nightly/holdfast.hfbackup"
PATH: Final = "nightly/holdfast.hfbackup"
PATIENCE_SECONDS: Final = 120


@dataclass(slots=True)
class HaltingHub(FailingHub):
    """A Hub that also does not answer some requests until it may."""

    halted: str | None = None
    """A part of the path of those requests."""
    has_halted: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.halted is not None and self.halted in scope.get("path", ""):
            self.has_halted.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await FailingHub.__call__(self, scope, receive, send)


@dataclass(frozen=True, slots=True)
class BucketDeployment:
    """The variables of a deployment without a home folder, and its Hub."""

    environment: dict[str, str]
    folder: Path
    """Where its commands write what is temporary."""
    users: list[LocalUser]
    hub: HaltingHub

    @property
    def api(self) -> HfApi:
        return HfApi(
            endpoint=self.environment["HOLDFAST_HUB_URL"],
            token=find_user(self.users, "alice").token,
        )

    async def run(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; an empty variable is left out."""
        environment = {key: text for key, text in (self.environment | variables).items() if text}

        def execute() -> "subprocess.CompletedProcess[str]":
            with start_command(environment, *command) as process:
                _, errors = process.communicate(timeout=PATIENCE_SECONDS)
            return subprocess.CompletedProcess(command, process.returncode, "", errors)

        return await to_thread.run_sync(execute)

    def list_leftovers(self) -> list[Path]:
        return sorted(self.folder.rglob("*"))

    def read_content(self, folder: Path) -> bytes:
        """Return what the bucket has under the name."""
        place = folder / "downloaded"
        self.api.download_bucket_files(BUCKET, [(PATH, place)], raise_on_missing_files=True)
        return place.read_bytes()

    def list_paths(self) -> list[str]:
        return [entry.path for entry in self.api.list_bucket_tree(BUCKET, recursive=True)]


@contextmanager
def start_command(environment: dict[str, str], *command: str) -> Generator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "service", *command],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with process:
            yield process
    finally:
        process.kill()


def transfer_there_and_back(url: str) -> None:
    """Send a file and fetch it, in this thread: the main one, which signals interrupt."""
    content = b"whole" * 1000
    with open_transfer(BucketFile(BUCKET, PATH), url) as transfer:
        assert get_session().timeout.read == 60
        (transfer.folder / "sent").write_bytes(content)
        transfer.upload(transfer.folder / "sent")
        transfer.download(transfer.folder / "fetched")
        assert (transfer.folder / "fetched").read_bytes() == content
    assert not transfer.folder.exists()


@pytest.fixture
def bucket_deployment(
    database_url: str, vault_keys: str, tmp_path: Path
) -> Generator[BucketDeployment]:
    """A deployment, and a private bucket of Alice's with nothing in it."""
    users, temporary = load_users(tmp_path / "hub"), tmp_path / "temporary"
    temporary.mkdir()
    hub = HaltingHub(
        create_hub_emulator(
            tmp_path / "hub", scheduling_delay=timedelta(0), flush_delay=timedelta(0)
        )
    )
    with serve_app(hub) as url:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/dev/null",
            "TMPDIR": str(temporary),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_TOKEN": find_user(users, "alice").token,
            "HOLDFAST_DATABASE_URL": database_url,
            "HOLDFAST_REDIS_URL": "redis://127.0.0.1:1",
            "HOLDFAST_VAULT_KEYS": vault_keys,
            "HOLDFAST_HUB_URL": url,
        }
        deployment = BucketDeployment(environment, temporary, users, hub)
        deployment.api.create_bucket(BUCKET, private=True)
        yield deployment


async def test_a_bucket_takes_a_backup_and_gives_it_back(
    postgres_url: str, bucket_deployment: BucketDeployment, make_job: JobFactory, tmp_path: Path
) -> None:
    """There is no home folder; nothing is left on the disk, and the library says nothing."""
    await make_job(title="a title in the clear")

    done = await bucket_deployment.run("backup", PLACE)

    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert done.stderr.endswith(f"to {PLACE}.\n")
    content = bucket_deployment.read_content(tmp_path)
    assert content.startswith(b"holdfast backup\n")
    assert b"a title in the clear" not in content
    async with create_login(postgres_url) as target:
        await grant_roles(postgres_url, target)
        restored = await bucket_deployment.run("restore", PLACE, HOLDFAST_DATABASE_URL=target)

        assert restored.returncode == 0, restored.stderr
        assert "launch nothing until that is done" in restored.stderr
        assert await count_jobs(target) == 1
    assert bucket_deployment.list_leftovers() == []


@pytest.mark.parametrize("refused", ["/v1/xorbs", "/v2/shards", "/batch"])
async def test_an_upload_that_breaks_off_leaves_the_older_backup(
    bucket_deployment: BucketDeployment, make_job: JobFactory, tmp_path: Path, refused: str
) -> None:
    """The name stands for the older content until all of the new one is there."""
    bucket_deployment.api.batch_bucket_files(BUCKET, add=[(b"older", PATH)])
    await make_job()
    bucket_deployment.hub.refusals[refused] = (400, "no room")

    failed = await bucket_deployment.run("backup", PLACE)

    assert failed.returncode == 1
    assert "No backup was confirmed: the Hub answered with the status 400" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert bucket_deployment.list_leftovers() == []
    bucket_deployment.hub.refusals.clear()
    assert bucket_deployment.read_content(tmp_path) == b"older"
    done = await bucket_deployment.run("backup", PLACE)
    assert done.returncode == 0, done.stderr
    assert bucket_deployment.read_content(tmp_path).startswith(b"holdfast backup\n")


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_an_upload_that_is_stopped_leaves_nothing(
    bucket_deployment: BucketDeployment, make_job: JobFactory, signal_number: signal.Signals
) -> None:
    """Until then, its file is for its owner only."""
    await make_job()
    bucket_deployment.hub.halted = "/v1/xorbs"

    def stop_midway() -> tuple[dict[str, int], int]:
        with start_command(bucket_deployment.environment, "backup", PLACE) as process:
            wait_until(bucket_deployment.hub.has_halted.is_set)
            modes = {
                path.name.partition("-")[0]: stat.S_IMODE(path.stat().st_mode)
                for path in bucket_deployment.list_leftovers()
                if path.name.startswith(("holdfast-", ".holdfast-"))
            }
            process.send_signal(signal_number)
            return modes, process.wait(PATIENCE_SECONDS)

    modes, code = await to_thread.run_sync(stop_midway)

    assert modes == {"holdfast": 0o700, ".holdfast": 0o600}
    assert code == 130
    assert bucket_deployment.list_leftovers() == []
    assert bucket_deployment.list_paths() == []


async def test_a_restore_that_breaks_off_changes_nothing(
    postgres_url: str, bucket_deployment: BucketDeployment, make_job: JobFactory
) -> None:
    """The file is here, and looked through, before anything is written."""
    await make_job()
    assert (await bucket_deployment.run("backup", PLACE)).returncode == 0
    bucket_deployment.hub.refusals["/reconstructions"] = (403, "no")

    async with create_login(postgres_url) as target:
        await grant_roles(postgres_url, target)
        failed = await bucket_deployment.run("restore", PLACE, HOLDFAST_DATABASE_URL=target)

        assert failed.returncode == 1
        assert (
            "Nothing was changed: the transfer broke off (status 403 of an answer)."
            in failed.stderr
        )
        assert await count_jobs(target) is None
    assert bucket_deployment.list_leftovers() == []


@pytest.mark.parametrize(
    ("command", "variables", "sentence"),
    [
        (
            ("backup", PLACE),
            {"HF_TOKEN": ""},
            "No backup was made: there is no token (NotADirectoryError); set HF_TOKEN",
        ),
        (("backup", PLACE), {"HF_TOKEN": "", "HOME": "/nowhere"}, "made: there is no token; set"),
        (("backup", PLACE), {"HF_TOKEN": "", "HF_OIDC_RESOURCE": "a"}, "no token (OIDCError); set"),
        (("restore", PLACE), {"HF_TOKEN": ""}, "Nothing was changed: there is no token"),
        (("backup", PLACE), {"HF_TOKEN": "hf_ö"}, "characters that no token has"),
        (
            ("backup", "hf://buckets/alice/none/x.hfbackup"),
            {},
            "is no bucket alice/none that the token may see; create it",
        ),
        (("restore", PLACE), {}, f"there is no file {PATH} in the bucket {BUCKET}."),
        (
            ("restore", PLACE),
            {"HOLDFAST_HUB_URL": f"http://127.0.0.1:{find_free_port()}"},
            "cannot be reached (ConnectError); HOLDFAST_HUB_URL says where it is.",
        ),
    ],
)
async def test_what_the_hub_refuses_is_one_sentence(
    bucket_deployment: BucketDeployment,
    command: tuple[str, ...],
    variables: dict[str, str],
    sentence: str,
) -> None:
    """And it comes before any long work."""
    refused = await bucket_deployment.run(*command, **variables)

    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert sentence in refused.stderr
    assert bucket_deployment.list_leftovers() == []


async def test_a_token_without_the_right_is_one_sentence(
    bucket_deployment: BucketDeployment, ada_id: str
) -> None:
    """Whether it may write, the Hub says only when it is to write."""
    reader = find_user(bucket_deployment.users, "alice", LocalTokenKind.READ).token

    forbidden = await bucket_deployment.run("backup", PLACE, HF_TOKEN=reader)
    bucket_deployment.hub.refusals["/api/buckets"] = (401, "Invalid credentials")
    invalid = await bucket_deployment.run("backup", PLACE)

    assert (forbidden.returncode, forbidden.stderr.count("\n")) == (1, 1), forbidden.stderr
    assert f"the token may not write to the bucket {BUCKET}" in forbidden.stderr
    assert (invalid.returncode, invalid.stderr.count("\n")) == (1, 1), invalid.stderr
    assert "the Hub does not accept the token" in invalid.stderr


@pytest.mark.parametrize("command", ["backup", "restore"])
@pytest.mark.parametrize(
    "name",
    [
        *(
            "hf://buckets/acme/x.hfbackup",
            "hf://buckets/acme",
            "hf://buckets/",
            "hf:/buckets/a/b/c",
        ),
        *("hf://buckets/a/b/", "hf://buckets/a/b/../c", "hf://buckets/a/b/%2e%2e/c"),
        *("hf://datasets/a/b/c", "hf://a/b/c", "https://h.example/x", "s3://a/b", "FILE:///tmp/x"),
    ],
)
async def test_a_name_of_another_form_is_refused_in_words(
    database_url: str,
    vault_keys: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    name: str,
) -> None:
    """It opens no URL, and makes no folder that is called like a scheme."""
    monkeypatch.chdir(tmp_path)
    for variable, text in {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1",
        "VAULT_KEYS": vault_keys,
    }.items():
        monkeypatch.setenv(f"HOLDFAST_{variable}", text)

    code = await to_thread.run_sync(main, [command, name])

    assert code == 1
    assert "is neither a path nor a file in a bucket; write" in capsys.readouterr().err
    assert list_names(tmp_path) == []


@pytest.mark.parametrize("name", ["x.backup", "a:b.backup", "/srv/x", "./s3:/x", "-", "C"])
def test_a_path_is_a_path(name: str) -> None:
    assert BucketFile.parse(name) is None


async def test_a_transfer_leaves_the_process_as_it_was(
    bucket_deployment: BucketDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So there can be another one; and no request waits for ever."""
    monkeypatch.setenv("HF_TOKEN", bucket_deployment.environment["HF_TOKEN"])
    monkeypatch.delenv("HF_XET_CACHE", raising=False)

    def describe_process() -> tuple[object, ...]:
        return (
            get_session().timeout.read,
            signal.getsignal(signal.SIGTERM),
            are_progress_bars_disabled(),
        )

    before = describe_process()
    for _ in range(2):
        transfer_there_and_back(bucket_deployment.environment["HOLDFAST_HUB_URL"])

        assert describe_process() == before
        assert "HF_XET_CACHE" not in os.environ


async def test_keep_is_for_folders_of_this_machine(bucket_deployment: BucketDeployment) -> None:
    refused = await bucket_deployment.run("backup", PLACE, "--keep", "3")

    assert refused.returncode == 1
    assert "--keep 3 needs a folder" in refused.stderr
