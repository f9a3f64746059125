"""Who the local Hub takes callers for, and what it answers in place of a model."""

# The client library leaves these partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import pytest
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import HfHubHTTPError

from service.local.hub_emulator.users import LocalTokenKind, find_user
from tests.support.http_clients import get_once
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator


@pytest.mark.parametrize("kind", list(LocalTokenKind))
def test_every_kind_of_token_is_known_by_the_same_subject(
    hub_emulator: HubEmulatorProcess, kind: LocalTokenKind
) -> None:
    """Rows are keyed by the id, whatever the caller signed in with."""
    identity = hub_emulator.api("alice", kind).whoami()

    assert identity["id"] == find_user(hub_emulator.users, "alice").id
    assert identity["auth"]["type"] == ("oauth" if kind is LocalTokenKind.OAUTH else "access_token")


def test_a_wrong_token_is_told_so_in_the_words_clients_look_for(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """The client library tells this 401 from others by its text."""
    answer = get_once(
        f"{hub_emulator.url}/api/whoami-v2", headers={"Authorization": "Bearer hf_no"}
    )

    assert answer.status_code == 401
    assert answer.json() == {"error": "Invalid credentials in Authorization header"}
    assert answer.headers["x-error-message"] == "Invalid credentials in Authorization header"


def test_every_answer_says_what_it_comes_from(hub_emulator: HubEmulatorProcess) -> None:
    """Nobody should take this for Hugging Face, and request ids lead to logs."""
    answers = [
        get_once(f"{hub_emulator.url}{path}")
        for path in ("/api/jobs/hardware", "/api/agent-harnesses", "/api/whoami-v2", "/nowhere")
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 401, 404]
    for answer in answers:
        assert answer.headers["x-emulator"] == "holdfast-local-hub"
        assert answer.headers["x-request-id"].startswith("Root=1-")
        assert answer.headers["ratelimit"].startswith('"api";r=')
        assert answer.headers["ratelimit-policy"] == '"fixed window";"api";q=100000;w=300'


def test_another_hosts_name_is_turned_away(hub_emulator: HubEmulatorProcess) -> None:
    """A web page that rebinds its name to this address must not run commands here."""
    answer = get_once(f"{hub_emulator.url}/api/jobs/hardware", headers={"Host": "evil.example"})

    assert answer.status_code == 400


def test_a_spent_budget_is_answered_with_when_to_return(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Pollers that ignore this lock their user out of the Hub."""
    with run_hub_emulator(tmp_path_factory.mktemp("hub"), quota=3) as hub:
        token = find_user(hub.users, "alice").token
        headers = {"Authorization": f"Bearer {token}"}
        answers = [get_once(f"{hub.url}/api/whoami-v2", headers=headers) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["ratelimit"].startswith('"api";r=2;')
    assert 0 < int(answers[-1].headers["retry-after"]) <= 300


def test_the_hardware_list_has_the_hubs_shape(hub_emulator: HubEmulatorProcess) -> None:
    """Prices are read from here, so the real client must be able to."""
    flavors = {flavor.name: flavor for flavor in hub_emulator.api().list_jobs_hardware()}

    assert flavors["cpu-basic"].unit_cost_micro_usd == 167
    assert flavors["cpu-basic"].accelerator is None


async def test_a_chat_is_answered_by_a_stand_in_that_says_so(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """Deterministic, and never to be mistaken for a model."""
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "hello again"},
        {"role": "system", "content": "be kind"},
    ]
    async with AsyncInferenceClient(
        base_url=f"{hub_emulator.url}/v1", token=find_user(hub_emulator.users, "alice").token
    ) as client:
        completion = await client.chat_completion(messages, model="local/echo:fastest")
        stream = await client.chat_completion(messages, model="local/echo", stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]

    text = completion.choices[0].message.content
    assert text is not None
    assert "no model was run" in text
    assert text.endswith("hello again")
    assert "".join(pieces) == text
    assert completion.usage is not None


@pytest.mark.parametrize(
    ("name", "kind", "model", "status"),
    [
        ("alice", LocalTokenKind.READ, "local/echo", 403),
        ("carol", LocalTokenKind.WRITE, "local/echo", 402),
        ("alice", LocalTokenKind.WRITE, "missing/model", 400),
    ],
)
async def test_a_chat_is_refused_as_the_router_refuses(
    hub_emulator: HubEmulatorProcess, name: str, kind: LocalTokenKind, model: str, status: int
) -> None:
    """Permission, payment and a wrong name are told apart."""
    token = find_user(hub_emulator.users, name, kind).token

    async with AsyncInferenceClient(base_url=f"{hub_emulator.url}/v1", token=token) as client:
        with pytest.raises(HfHubHTTPError) as refused:
            await client.chat_completion([{"role": "user", "content": "x"}], model=model)

    assert refused.value.response.status_code == status
