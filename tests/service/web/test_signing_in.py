"""Signing in with Hugging Face on the pages, and whatever an attacker might do about it."""

from datetime import timedelta

import httpx2
import pytest
from starlette.responses import Response

from schema.db.database import Database
from service.runtime.sealed_tokens import SealedTokens
from service.web.browser_sign_in import local_path
from service.web.sessions import SESSION_LIFETIME, Sessions
from tests.support.factories import StartService
from tests.support.oauth.web_person import SESSION_COOKIE, WebPerson

FOREIGN = "https://evil.example/"


async def test_whoever_signs_in_comes_back_to_the_page_they_wanted(alice: WebPerson) -> None:
    before = await alice.get("/jobs?show=failed")
    returned = await alice.sign_in("/jobs?show=failed")
    after = await alice.get("/jobs?show=failed")

    assert before.status_code == 401
    assert "/sign-in?next=%2Fjobs%3Fshow%3Dfailed" in before.text
    assert (returned.status_code, returned.headers["location"]) == (303, "/jobs?show=failed")
    assert after.status_code == 200
    assert '<span class="who">alice</span>' in after.text
    assert after.headers["cache-control"] == "no-store"


async def test_the_token_is_lent_to_the_jobs_of_the_person(
    alice: WebPerson, database: Database
) -> None:
    """As the token of any client is."""
    await alice.sign_in()
    await alice.get("/jobs")

    async with database.transaction() as tx:
        row = await tx.fetchrow("SELECT state, expires_at > now() AS is_valid FROM credential")
        sealed = await tx.fetchval("SELECT sealed FROM connected_account")
    assert row is not None
    assert (row["state"], row["is_valid"]) == ("valid", True)
    assert b"hf_oauth" not in sealed


async def test_a_token_that_is_over_is_refreshed_by_the_next_page(
    alice: WebPerson, database: Database
) -> None:
    await alice.sign_in()
    await alice.get("/jobs")
    async with database.transaction() as tx:
        await tx.execute("UPDATE connected_account SET expires_at = now()")

    page = await alice.get("/jobs")

    assert page.status_code == 200
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT version FROM connected_account") == 2
        assert await tx.fetchval("SELECT version FROM credential") == 2


def test_the_cookie_is_for_this_host_alone_and_for_no_script() -> None:
    sessions = Sessions(SealedTokens([b"k" * 32]), is_https=True)
    response = Response()

    sessions.set(response, sessions.make("ada"))

    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Host-holdfast-session=")
    for attribute in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert attribute in cookie
    assert "Domain" not in cookie
    assert f"Max-Age={int(SESSION_LIFETIME / timedelta(seconds=1))}" in cookie


@pytest.mark.parametrize(
    "target",
    [
        *(FOREIGN, "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)"),
        *("/%0d%0aset-cookie:a=b\r\nx: y", "/\tevil", " /jobs", "", "jobs", "/" + "a" * 600),
    ],
)
def test_a_sign_in_leads_nowhere_else(target: str) -> None:
    assert local_path(target) == "/jobs"


@pytest.mark.parametrize("target", [FOREIGN, "//evil.example"])
async def test_a_link_to_a_sign_in_cannot_lead_elsewhere(alice: WebPerson, target: str) -> None:
    assert (await alice.sign_in(target)).headers["location"] == "/jobs"


async def test_another_browser_cannot_finish_a_sign_in(alice: WebPerson, bob: WebPerson) -> None:
    """Or Bob would send Alice his own way back, and she would work in his account."""
    way_back = await bob.consent(await bob.begin())

    answer = await alice.http.get(way_back)
    forged = await alice.get("/sign-in/callback?code=a&state=b")

    assert (answer.status_code, forged.status_code) == (400, 400)
    assert alice.session is None


async def test_an_answer_is_taken_once_and_only_of_the_hub(alice: WebPerson) -> None:
    way_back = await alice.consent(await alice.begin())
    url = httpx2.URL(way_back)

    foreign = await alice.http.get(url.copy_set_param("iss", "https://evil.example"))
    first = await alice.http.get(url)
    second = await alice.http.get(url)

    assert (foreign.status_code, first.status_code, second.status_code) == (400, 303, 400)


async def test_an_id_token_of_another_sign_in_is_refused(alice: WebPerson) -> None:
    hub_url = httpx2.URL(await alice.begin()).copy_set_param("nonce", "of-another")

    answer = await alice.http.get(await alice.consent(str(hub_url)))

    assert answer.status_code == 400
    assert "another sign-in" in answer.text
    assert alice.session is None


async def test_a_session_that_was_planted_ends_with_the_sign_in(
    alice: WebPerson, bob: WebPerson
) -> None:
    """Bob gives Alice's browser his session, and waits for her to sign in."""
    await bob.sign_in()
    planted = bob.session
    assert planted is not None
    alice.http.cookies.set(SESSION_COOKIE, planted, domain="127.0.0.1", path="/")

    await alice.sign_in()

    assert alice.session not in {None, planted}
    assert (await bob.get("/jobs")).status_code == 401
    assert '<span class="who">alice</span>' in (await alice.get("/jobs")).text


async def test_signing_out_ends_the_session_for_whoever_has_a_copy(
    alice: WebPerson, database: Database
) -> None:
    await alice.sign_in()
    copy = alice.session
    token = await alice.read_csrf_token()

    answer = await alice.post("/sign-out", csrf=token)
    alice.http.cookies.set(SESSION_COOKIE, str(copy), domain="127.0.0.1", path="/")

    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert (await alice.get("/jobs")).status_code == 401
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM connected_account") == 0
        assert await tx.fetchval("SELECT state FROM credential") == "valid"  # for the jobs


async def test_another_site_cannot_sign_anybody_out(alice: WebPerson, bob: WebPerson) -> None:
    await alice.sign_in()
    await bob.sign_in()
    of_bob = await bob.read_csrf_token()

    answers = [
        await alice.post("/sign-out"),
        await alice.post("/sign-out", csrf="v1.AAAA"),
        await alice.post("/sign-out", csrf=of_bob),
        await alice.post("/sign-out", csrf=str(alice.session)),
    ]

    assert [answer.status_code for answer in answers] == [403] * 4
    assert (await alice.get("/jobs")).status_code == 200


@pytest.mark.parametrize("cookie", ["", "v1.AAAA", "x" * 5000])
async def test_a_cookie_that_is_none_of_ours_is_nobody(alice: WebPerson, cookie: str) -> None:
    alice.http.cookies.set(SESSION_COOKIE, cookie, domain="127.0.0.1", path="/")

    assert (await alice.get("/jobs")).status_code == 401


async def test_whoever_is_erased_is_signed_out(alice: WebPerson, database: Database) -> None:
    await alice.sign_in()
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM connected_account")

    assert (await alice.get("/jobs")).status_code == 401


async def test_a_browser_that_comes_by_another_name_is_sent_to_ours(
    alice: WebPerson, pages_url: str
) -> None:
    """Its cookie would be one of that name, and the Hub sends it back to ours."""
    other = pages_url.replace("127.0.0.1", "localhost")

    answer = await alice.http.get(f"{other}/sign-in")

    assert answer.headers["location"] == f"{pages_url}/sign-in?next=%2Fjobs"


async def test_without_an_application_the_page_says_so(start_service: StartService) -> None:
    with start_service() as url:
        async with httpx2.AsyncClient(base_url=url) as http:
            answer = await http.get("/sign-in")

    assert answer.status_code == 404
    assert "HOLDFAST_HF_OAUTH_CLIENT_ID" in answer.text


async def test_behind_another_authorization_server_the_page_says_so(
    start_service: StartService,
) -> None:
    with start_service(auth="jwt", jwt_issuer="https://id.example") as url:
        async with httpx2.AsyncClient(base_url=url) as http:
            answer = await http.get("/jobs")

    assert answer.status_code == 404
    assert "https://id.example" in answer.text
