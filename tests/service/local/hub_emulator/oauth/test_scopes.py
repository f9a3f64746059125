"""What a token that was issued may do at the local Hub, and for how long."""

# The client library leaves these partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from huggingface_hub import AsyncInferenceClient, HfApi
from huggingface_hub.errors import HfHubHTTPError

from tests.support.hub.emulator_process import HubEmulatorProcess, wait_until_over
from tests.support.oauth.consent_browser import SignInClient, sign_in

ACME_ID = "a" * 24
DENIED_MESSAGE = (
    "You don't have the required permissions to complete this action on namespace {}, "
    "missing permissions: {}"
)


async def test_a_token_with_the_scope_jobs_runs_one(hub_emulator: HubEmulatorProcess) -> None:
    """The whole way, from the browser to the end of a process."""
    tokens = await sign_in(hub_emulator.url, "openid jobs")
    api = HfApi(endpoint=hub_emulator.url, token=tokens.access_token)

    job = api.run_job(image="x", command=["true"], namespace="alice")

    assert wait_until_over(api, job).status.stage == "COMPLETED"


async def test_a_token_without_the_scope_jobs_neither_runs_nor_sees_one(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """The user did not allow it; the words are the Hub's."""
    tokens = await sign_in(hub_emulator.url, "openid profile inference-api")
    api = HfApi(endpoint=hub_emulator.url, token=tokens.access_token)
    job = hub_emulator.api().run_job(image="x", command=["true"], namespace="alice")

    with pytest.raises(HfHubHTTPError) as launched:
        api.run_job(image="x", command=["true"], namespace="alice")
    with pytest.raises(HfHubHTTPError) as listed:
        list(api.list_jobs(namespace="alice"))

    assert launched.value.response.status_code == listed.value.response.status_code == 403
    assert launched.value.response.headers["x-error-message"] == DENIED_MESSAGE.format(
        "alice", "job.write"
    )
    assert listed.value.response.headers["x-error-message"] == DENIED_MESSAGE.format(
        "alice", "job.read"
    )
    with hub_emulator.open_client_as(tokens.access_token) as client:
        of_job = f"/api/jobs/alice/{job.id}"
        answers = [
            client.get(of_job),
            client.get(f"{of_job}/logs"),
            client.post(f"{of_job}/cancel"),
            client.get("/api/jobs/alice/count"),
            client.post("/api/jobs/alice/auth-check/read"),
            client.post("/api/jobs/alice/auth-check/write"),
        ]
    assert {answer.status_code for answer in answers} == {403}


async def test_a_model_is_called_with_the_scope_for_it_and_not_without(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """Calls cost money, too."""
    messages = [{"role": "user", "content": "x"}]
    may = await sign_in(hub_emulator.url, "inference-api")
    may_not = await sign_in(hub_emulator.url, "jobs")

    async with AsyncInferenceClient(
        base_url=f"{hub_emulator.url}/v1", token=may.access_token
    ) as client:
        completion = await client.chat_completion(messages, model="local/echo")
    async with AsyncInferenceClient(
        base_url=f"{hub_emulator.url}/v1", token=may_not.access_token
    ) as client:
        with pytest.raises(HfHubHTTPError) as refused:
            await client.chat_completion(messages, model="local/echo")

    assert completion.choices[0].message.content is not None
    assert refused.value.response.status_code == 403
    assert "on behalf of user alice" in str(refused.value.server_message)


async def test_an_organisation_is_reached_only_if_the_user_allowed_it(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """Its namespace pays; whoami tells no more than was allowed."""
    without = await sign_in(hub_emulator.url, "openid jobs")
    granted = await sign_in(hub_emulator.url, "openid jobs", org_ids=["b" * 24, ACME_ID])
    foreign = await sign_in(hub_emulator.url, "openid jobs", user="bob", org_ids=[ACME_ID])

    seen: list[tuple[int, list[str]]] = []
    for tokens in (without, granted, foreign):
        with hub_emulator.open_client_as(tokens.access_token) as client:
            checked = client.post("/api/jobs/acme/auth-check/write")
            orgs = [org["name"] for org in client.get("/api/whoami-v2").json()["orgs"]]
        seen.append((checked.status_code, orgs))
        if checked.status_code == 403:
            assert checked.json() == {"error": DENIED_MESSAGE.format("acme", "job.write")}

    assert seen == [(403, []), (200, ["acme"]), (403, [])]


async def test_an_expired_token_is_nobodys_and_its_session_goes_on(
    hub_emulator: HubEmulatorProcess, anonymous_http: httpx2.AsyncClient
) -> None:
    """Eight hours are over in the middle of a job; a test cannot wait for them."""
    app = await SignInClient.register(anonymous_http)
    tokens = await app.obtain_tokens()
    code = await app.obtain_code()

    for secret in (tokens.access_token, code):
        answer = await anonymous_http.post("/_emulator/oauth/expire", json={"token": secret})
        assert answer.status_code == 204

    with hub_emulator.open_client_as(tokens.access_token) as client:
        response = client.get("/api/whoami-v2")
    assert response.status_code == 401
    assert response.json() == {"error": "Invalid credentials in Authorization header"}
    assert (await app.redeem_code(code)).json()["error"] == "invalid_grant"
    assert (await app.refresh_tokens(tokens.refresh_token)).is_success


async def test_a_revoked_session_is_over_and_its_consent_forgotten(
    hub_emulator: HubEmulatorProcess, anonymous_http: httpx2.AsyncClient
) -> None:
    """As if the user had taken the client off their list at the Hub."""
    app = await SignInClient.register(anonymous_http)
    tokens = await app.obtain_tokens()
    spare = (await app.refresh_tokens(tokens.refresh_token)).json()

    await anonymous_http.post("/_emulator/oauth/revoke", json={"token": tokens.access_token})

    for access_token in (tokens.access_token, spare["access_token"]):
        with hub_emulator.open_client_as(access_token) as client:
            assert client.get("/api/whoami-v2").status_code == 401
            assert client.get("/oauth/userinfo").status_code == 401
    assert (await app.refresh_tokens(spare["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await app.authorize()).status_code == 200


async def test_a_test_may_shorten_what_is_issued_from_now_on(
    hub_emulator: HubEmulatorProcess, anonymous_http: httpx2.AsyncClient
) -> None:
    """The real lifetime is set where the Hub's app is made, out of a test's reach."""
    path = "/_emulator/oauth/lifetime"
    stranger = await anonymous_http.post(path, json={"seconds": 60})
    with hub_emulator.open_client() as client:
        assert client.post(path, json={"seconds": 0}).status_code == 400
        assert client.post(path, json={"seconds": 60}).status_code == 204
        try:
            tokens = await sign_in(hub_emulator.url)
        finally:
            client.post(path, json={"seconds": 28_800})

    identity = HfApi(endpoint=hub_emulator.url, token=tokens.access_token).whoami()
    left = datetime.fromisoformat(identity["auth"]["expiresAt"]) - datetime.now(UTC)
    assert stranger.status_code == 401
    assert tokens.expires_in == 60
    assert left <= timedelta(seconds=60)


async def test_what_the_hub_never_gave_is_neither_revoked_nor_expired(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """A test that got its token wrong must not pass."""
    for what in ("revoke", "expire"):
        answer = await anonymous_http.post(
            f"/_emulator/oauth/{what}", json={"token": "hf_oauth_no"}
        )
        assert answer.status_code == 404
