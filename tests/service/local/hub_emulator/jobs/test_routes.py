"""What the local Hub takes and refuses, from whom, and how it lists what it has."""

from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, JobNotFoundError

from service.local.hub_emulator.users import LocalTokenKind, find_user
from tests.support.hub.emulator_process import JOB_REQUEST, HubEmulatorProcess, run_command
from tests.support.polling import wait_until


def test_a_long_list_comes_in_pages_and_filters_by_label_and_stage(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """Whoever reads only the first page misses runs that cost money."""
    bob = hub_emulator.api("bob")
    ids = [
        bob.run_job(
            image="x", command=["true"], namespace="bob", labels={"n": str(n), "all": "yes"}
        ).id
        for n in range(23)
    ]

    listed = list(bob.list_jobs(namespace="bob", labels={"all": "yes"}))
    one = list(bob.list_jobs(namespace="bob", labels={"all": "yes", "n": "7"}))

    assert [job.id for job in listed] == ids[::-1]
    assert [job.id for job in one] == [ids[7]]
    wait_until(lambda: not list(bob.list_jobs(namespace="bob", status=["RUNNING", "SCHEDULING"])))
    with hub_emulator.open_client("bob") as client:
        assert client.get("/api/jobs/bob/count?stage=COMPLETED&label=n%3D7").json() == {"count": 1}


def test_the_next_page_is_found_though_the_last_job_left_the_filter(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """Jobs move on while they are listed; none may be told twice, or left out."""
    api = hub_emulator.api()
    labels = {"page": "left"}
    ids = [run_command(api, "true", labels=labels).id for _ in range(22)]
    with hub_emulator.open_client() as client:
        first = client.get("/api/jobs/alice", params={"label": "page=left"})
        last_on_page = first.json()[-1]["id"]
        api.update_job_labels(job_id=last_on_page, namespace="alice", labels={"page": "gone"})

        second = client.get(first.links["next"]["url"])

    assert [job["id"] for job in first.json() + second.json()] == ids[::-1]
    assert "next" not in second.links


def test_a_strangers_job_does_not_exist(hub_emulator: HubEmulatorProcess, alice_api: HfApi) -> None:
    """Not found, exactly as a job that never was, whatever is wanted of it."""
    job = run_command(alice_api, "true")
    bob = hub_emulator.api("bob")

    messages = set[str]()
    for job_id in (job.id, "0" * 24):
        for ask in (bob.inspect_job, bob.cancel_job, bob.rerun_job):
            with pytest.raises(JobNotFoundError) as missing:
                ask(job_id=job_id, namespace="alice")
            messages.add(str(missing.value.server_message))
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("name", "kind", "namespace", "status", "words"),
    [
        ("alice", LocalTokenKind.READ, "alice", 403, "missing permissions: job.write"),
        (
            "alice",
            LocalTokenKind.WRITE,
            "bob",
            403,
            "on namespace bob, missing permissions: job.write",
        ),
        ("alice", LocalTokenKind.FINE_GRAINED, "acme", 403, "on namespace acme"),
        ("carol", LocalTokenKind.WRITE, "carol", 402, "Pre-paid credit balance is insufficient"),
    ],
)
def test_who_may_not_launch_is_told_why(
    hub_emulator: HubEmulatorProcess,
    name: str,
    kind: LocalTokenKind,
    namespace: str,
    status: int,
    words: str,
) -> None:
    """The words are those of the Hub, for people search for them."""
    with pytest.raises(HfHubHTTPError) as refused:
        hub_emulator.api(name, kind).run_job(image="x", command=["true"], namespace=namespace)

    assert refused.value.response.status_code == status
    assert words in refused.value.response.headers["x-error-message"]
    assert words in str(refused.value.server_message)


@pytest.mark.parametrize(
    ("name", "kind", "path", "status"),
    [
        ("alice", LocalTokenKind.FINE_GRAINED, "alice/auth-check/write", 200),
        ("alice", LocalTokenKind.READ, "alice/auth-check/read", 200),
        ("alice", LocalTokenKind.READ, "alice/auth-check/write", 403),
        ("alice", LocalTokenKind.WRITE, "bob/auth-check/read", 403),
        ("alice", LocalTokenKind.WRITE, f"alice/{'0' * 24}/auth-check/write", 404),
        ("alice", LocalTokenKind.WRITE, "alice/auth-check/admin", 404),
    ],
)
def test_a_token_can_be_tried_before_anything_is_created(
    hub_emulator: HubEmulatorProcess, name: str, kind: LocalTokenKind, path: str, status: int
) -> None:
    """A refusal is cheaper before the row, the hold and the handle."""
    with hub_emulator.open_client(name, kind) as client:
        answer = client.post(f"/api/jobs/{path}")

    assert answer.status_code == status
    if answer.is_success:
        assert answer.json()["namespace"] == answer.json()["user"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"flavor": "abacus"}, "flavor"),
        ({"flavor": None}, "flavor"),
        ({"command": []}, "command"),
        ({"command": ["echo", ""]}, "command.1"),
        ({"environment": {"_A": "x"}}, "environment"),
        ({"environment": {"A": "x"}}, "environment"),
        ({"environment": {"AB": 1}}, "environment.AB"),
        ({"secrets": {"A-B": "x"}}, "secrets"),
        ({"labels": {"a b": "x"}}, "labels"),
        ({"labels": {"a": "x.y"}}, "labels"),
        ({"timeoutSeconds": 0}, "timeoutSeconds"),
        ({"timeoutSeconds": "60"}, "timeoutSeconds"),
        ({"attempts": 0}, "attempts"),
        ({"spaceId": "a/b"}, "dockerImage"),
        ({"volumes": [{"type": "bucket"}]}, "volumes"),
        ({"expose": {"ports": [0]}}, "expose.ports"),
        ({"expose": {"ports": list(range(1, 22))}}, "expose.ports"),
        ({"expose": {"ports": [80], "portsPublic": [81]}}, "portsPublic"),
        ({"ssh": {}}, "ssh.enabled"),
        ({"resourceGroupId": "blue"}, "resourceGroupId"),
        ({"network": {"group": "train"}}, "network"),
    ],
)
def test_a_request_the_hub_would_refuse_is_refused_by_field(
    hub_emulator: HubEmulatorProcess, changes: dict[str, Any], field: str
) -> None:
    """What passes here must pass there; and what is not offered here is not passed over."""
    with hub_emulator.open_client() as client:
        answer = client.post("/api/jobs/alice", json=JOB_REQUEST | changes)

    assert answer.status_code == 400
    assert field in answer.json()["error"]
    assert answer.headers["x-error-message"] == answer.json()["error"]


def test_the_real_client_reads_where_a_job_is_reached(
    alice_api: HfApi, hub_emulator: HubEmulatorProcess
) -> None:
    """And what else was asked for, in the Hub's words."""
    group = "66b2" * 6
    job = alice_api.run_job(
        image="hf.co/spaces/alice/app",
        command=["true"],
        namespace="alice",
        expose=[8000],
        ssh=True,
        attempts=2,
        resource_group_id=group,
    )

    seen = alice_api.inspect_job(job_id=job.id, namespace="alice")

    assert (seen.space_id, seen.docker_image) == ("alice/app", None)
    assert (seen.expose, seen.expose_public, seen.retry) == ([8000], [], 1)
    assert seen.status.expose_urls == ["http://127.0.0.1:8000"]
    assert seen.status.ssh_url == f"ssh://{job.id}@ssh.hf.jobs"
    with hub_emulator.open_client() as client:
        assert client.get(f"/api/jobs/alice/{job.id}").json()["resourceGroup"] == {"id": group}


def test_the_real_client_reads_a_refusal_as_such(alice_api: HfApi) -> None:
    """And not as a mishap that may be tried again."""
    with pytest.raises(BadRequestError, match="labels"):
        run_command(alice_api, "true", labels={"a": "x.y"})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/jobs/alice", b"{"),
        ("POST", "/api/jobs/alice", b"[]"),
        ("POST", "/v1/chat/completions", b'{"model": "m", "messages": [1]}'),
        ("POST", "/v1/chat/completions", b"\xff"),
        ("GET", "/api/jobs/alice?label=x", None),
    ],
)
def test_what_cannot_be_read_is_the_callers_mistake(
    hub_emulator: HubEmulatorProcess, method: str, path: str, body: bytes | None
) -> None:
    """A 500 here would send its reader after a fault of the real Hub that is none."""
    with hub_emulator.open_client() as client:
        assert client.request(method, path, content=body).status_code == 400


def test_an_organisation_the_user_belongs_to_can_own_a_job(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """The namespace decides who pays; who asked is told apart from it."""
    alice = find_user(hub_emulator.users, "alice")
    with hub_emulator.open_client() as client:
        job = client.post("/api/jobs/acme", json=JOB_REQUEST).json()

    assert (job["owner"]["name"], job["owner"]["type"]) == ("acme", "org")
    assert job["createdBy"] == {"id": alice.id, "name": "alice"}
    assert job["owner"]["id"] != alice.id
