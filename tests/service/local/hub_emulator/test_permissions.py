"""What a fine-grained token may do at the local Hub: what it names."""

import pytest

from service.local.hub_emulator.users import Permission
from tests.support.hub.emulator_process import JOB_REQUEST, HubEmulatorProcess

CHAT_REQUEST = {"model": "local/echo", "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("permission", "reads", "launches", "chats"),
    [
        (Permission.READ_JOBS, 200, 403, 403),
        (Permission.WRITE_JOBS, 200, 200, 403),
        (Permission.CALL_MODELS, 403, 403, 200),
        (Permission.WRITE_REPOS, 403, 403, 403),
        (Permission.READ_BILLING, 403, 403, 403),
    ],
)
def test_a_fine_grained_token_does_what_it_names_and_nothing_else(
    hub_emulator: HubEmulatorProcess, permission: Permission, reads: int, launches: int, chats: int
) -> None:
    """Most 403 of the Hub come from a token that was made for less."""
    with hub_emulator.open_client_as(hub_emulator.fine_grained_token(permission)) as client:
        named = client.get("/api/whoami-v2").json()["auth"]["accessToken"]["fineGrained"]
        listed = client.get("/api/jobs/alice")
        checked = client.post("/api/jobs/alice/auth-check/write")
        created = client.post("/api/jobs/alice", json=JOB_REQUEST)
        missing = client.get(f"/api/jobs/alice/{'0' * 24}")
        chat = client.post("/v1/chat/completions", json=CHAT_REQUEST)

    assert [scope["permissions"] for scope in named["scoped"]] == [[permission]]
    assert listed.status_code == reads
    assert checked.status_code == created.status_code == launches
    assert missing.status_code == (404 if reads == 200 else 403)
    assert chat.status_code == chats
    if launches == 403:
        assert created.headers["x-error-message"] == (
            "You don't have the required permissions to complete this action on namespace alice, "
            "missing permissions: job.write"
        )
