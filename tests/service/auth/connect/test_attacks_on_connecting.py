"""What somebody tries who wants to act at the Hub as another person.

The stranger signs in as themselves, and leads the person to some step of it; or they have a page
that posts forms from the person's browser.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import httpx2
import pytest

from schema.db.database import Database
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.oauth.authorization_server import AuthorizationServer
from tests.support.oauth.connecting import ConnectingBrowser
from tests.support.oauth.consent_browser import ConsentForm

Step = Callable[[ConnectingBrowser, ConnectingBrowser], Awaitable[httpx2.Response]]


async def count_connections(database: Database) -> int:
    async with database.transaction() as tx:
        count: int = await tx.fetchval("SELECT count(*) FROM connected_account")
    return count


async def post_form(
    page: httpx2.Response, browser: ConnectingBrowser, **changes: str
) -> httpx2.Response:
    """Send the form of a page from another browser, as a page of the stranger's does."""
    form = ConsentForm(page.text)
    return await browser.http.post(
        str(page.url.join(form.action)), data=form.fields | {"decision": "allow"} | changes
    )


async def follow_hub_link(
    stranger: ConnectingBrowser, person: ConnectingBrowser
) -> httpx2.Response:
    """Open the stranger's link to the Hub, and consent there: the Hub shows our name."""
    return await person.get(await person.consent(await stranger.go_to_hub()))


async def follow_hub_answer(
    stranger: ConnectingBrowser, person: ConnectingBrowser
) -> httpx2.Response:
    """Open the address to which the Hub has sent the stranger back."""
    return await person.get(await stranger.consent(await stranger.go_to_hub()))


async def follow_sign_in_answer(
    stranger: ConnectingBrowser, person: ConnectingBrowser
) -> httpx2.Response:
    """Open the address to which the authorization server has sent the stranger back."""
    return await person.get(await stranger.sign_in())


async def post_confirmation(
    stranger: ConnectingBrowser, person: ConnectingBrowser
) -> httpx2.Response:
    """Have the person's browser confirm what the stranger has begun."""
    return await post_form(await stranger.reach_confirmation(), person)


async def post_start(stranger: ConnectingBrowser, person: ConnectingBrowser) -> httpx2.Response:
    """Have the person's browser begin, unasked."""
    return await post_form(await stranger.get(f"{stranger.service_url}/connect"), person)


@pytest.mark.parametrize("has_cookie", [False, True])
@pytest.mark.parametrize(
    "step",
    [
        follow_hub_link,
        follow_hub_answer,
        follow_sign_in_answer,
        post_confirmation,
        post_start,
    ],
)
async def test_nobody_goes_on_with_what_another_began(
    stranger: ConnectingBrowser,
    person: ConnectingBrowser,
    database: Database,
    step: Step,
    *,
    has_cookie: bool,
) -> None:
    """Else the stranger's sign-in would act with the account of whoever opens their link."""
    if has_cookie:
        await person.get(f"{person.service_url}/connect")

    answer = await step(stranger, person)

    assert answer.status_code == 400, answer.text
    assert "location" not in answer.headers
    assert await count_connections(database) == 0


async def test_nobody_is_disconnected_by_a_page_of_another(
    stranger: ConnectingBrowser, person: ConnectingBrowser, database: Database
) -> None:
    """The form is sealed for the browser in which its person has signed in."""
    await stranger.connect()
    page = await stranger.get(await stranger.sign_in("disconnect"))
    await person.get(f"{person.service_url}/connect")

    answer = await post_form(page, person)

    assert answer.status_code == 400
    assert await count_connections(database) == 1


async def test_a_confirmation_counts_once(person: ConnectingBrowser, database: Database) -> None:
    """Sent again after a disconnect, it would connect the account again."""
    page = await person.reach_confirmation()
    connected = await person.press(page)
    await person.press(await person.get(await person.sign_in("disconnect")))

    again = await person.press(page)

    assert (connected.status_code, again.status_code) == (200, 400)
    assert await count_connections(database) == 0


async def test_an_answer_of_the_hub_counts_once(
    person: ConnectingBrowser, database: Database
) -> None:
    """A code is for one use, and so is what came of it."""
    answer = await person.consent(await person.go_to_hub())
    first = await person.get(answer)
    second = await person.get(answer)

    assert (first.status_code, second.status_code) == (200, 400)
    assert await count_connections(database) == 0


@pytest.mark.parametrize("path", ["sign-in", "hugging-face"])
async def test_a_state_is_ours_and_of_its_own_step(person: ConnectingBrowser, path: str) -> None:
    """A state of the first step names nobody who has signed in."""
    start = await person.press(await person.get(f"{person.service_url}/connect"))
    sign_in_state = httpx2.URL(start.headers["location"]).params["state"]
    hub_state = httpx2.URL(await person.go_to_hub()).params["state"]
    wrong = {"sign-in": hub_state, "hugging-face": sign_in_state}[path]
    changed = ("A" if wrong[20] != "A" else "B").join((wrong[:20], wrong[21:]))

    for state in ("", "forged", changed, wrong):
        query = urlencode({"state": state, "code": "c"})
        answer = await person.get(f"{person.service_url}/connect/{path}?{query}")
        assert answer.status_code == 400, state


async def test_the_code_of_another_sign_in_is_not_taken(
    person: ConnectingBrowser, stranger: ConnectingBrowser, database: Database
) -> None:
    """A code is bound to its sign-in by our proof key; the stranger's account does not slip in."""
    theirs = httpx2.URL(await stranger.consent(await stranger.go_to_hub())).params["code"]
    own = httpx2.URL(await person.consent(await person.go_to_hub()))

    answer = await person.get(str(own.copy_set_param("code", theirs)))

    assert answer.status_code == 400
    assert await count_connections(database) == 0


async def test_an_answer_of_another_server_is_not_taken(
    person: ConnectingBrowser, authorization_server: AuthorizationServer, database: Database
) -> None:
    """A server that mixes itself in would get a code of the right one (RFC 9207)."""
    at_hub = httpx2.URL(await person.consent(await person.go_to_hub()))
    signed_in = await person.sign_in()
    statuses = [
        (await person.get(url)).status_code
        for url in (
            str(at_hub.copy_set_param("iss", "https://evil.example")),
            str(at_hub.copy_remove_param("iss")),  # the Hub says that it always sends it
            f"{signed_in}&iss={authorization_server.url}.evil.example",
        )
    ]

    assert statuses == [400, 400, 400]
    assert (await person.get(signed_in)).status_code == 303
    assert await count_connections(database) == 0


async def test_a_token_for_another_service_signs_nobody_in(
    person: ConnectingBrowser, authorization_server: AuthorizationServer, database: Database
) -> None:
    """The access token is verified as with any call."""
    authorization_server.sign_in_endpoints.claims["aud"] = "https://elsewhere.example"

    answer = await person.get(await person.sign_in())

    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert await count_connections(database) == 0


async def test_whoever_refuses_at_the_hub_is_told_so(
    person: ConnectingBrowser, hub_emulator: HubEmulatorProcess
) -> None:
    """Markup in an answer is never shown."""
    state = httpx2.URL(await person.go_to_hub()).params["state"]
    query = urlencode(
        {"state": state, "error": "access_denied<b>", "iss": hub_emulator.url, "code": ""}
    )

    answer = await person.get(f"{person.service_url}/connect/hugging-face?{query}")

    assert answer.status_code == 400
    assert "<b>" not in answer.text


async def test_a_browser_gives_the_cookie_to_nobody_else(person: ConnectingBrowser) -> None:
    """No script reads it, and no form of another origin brings it along."""
    page = await person.get(f"{person.service_url}/connect")

    assert "HttpOnly" in page.headers["set-cookie"]
    assert "SameSite=lax" in page.headers["set-cookie"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


async def test_no_token_is_on_a_page_or_in_a_log(
    person: ConnectingBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    """What a page carries is sealed; what is logged is a fact without its secret."""
    page = await person.reach_confirmation()
    done = await person.press(page)

    printed = caplog.text + page.text + done.text
    assert "connection.made" in printed
    assert "hf_oauth" not in printed
