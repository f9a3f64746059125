"""The Spaces of the local Hub, as the real client library sees them; none is woken for this."""

import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from service.local.hub_emulator.spaces.routes import PAUSED_SPACE, PUBLIC_SPACE, SPACE_PROXY_PATH
from tests.support.hub.emulator_process import HubEmulatorProcess


def test_a_space_says_where_it_is_and_how_it_stands(hub_emulator: HubEmulatorProcess) -> None:
    """What the library reads of a Space of the real Hub it reads of ours."""
    space = hub_emulator.api().space_info(PUBLIC_SPACE)
    paused = hub_emulator.api().space_info(PAUSED_SPACE)

    assert (space.id, space.sdk, space.private) == (PUBLIC_SPACE, "gradio", False)
    assert (space.subdomain, space.host) == (
        "local-tiny",
        f"{hub_emulator.url}{SPACE_PROXY_PATH}/local-tiny",
    )
    assert space.runtime is not None
    assert space.runtime.hardware == "cpu-basic"
    assert paused.runtime is not None
    assert paused.runtime.stage == "PAUSED"


def test_a_private_space_is_there_for_its_owner_alone(hub_emulator: HubEmulatorProcess) -> None:
    """At the Hub as at the proxy before it, and in the same words as one that is not there."""
    assert hub_emulator.api("alice").space_info("alice/own").private

    messages: set[str] = set()
    for name in ("alice/own", "alice/none"):
        with pytest.raises(RepositoryNotFoundError) as caught:
            hub_emulator.api("bob").space_info(name)
        messages.add(str(caught.value.server_message))
    with hub_emulator.open_client("bob") as bob:
        shown = {"x-hf-authorization": bob.headers["authorization"]}
        pages = [
            bob.get(f"{SPACE_PROXY_PATH}/alice-{name}/config", headers=shown)
            for name in ("own", "none")
        ]

    assert len(messages) == 1
    assert [page.status_code for page in pages] == [404, 404]
    assert pages[0].content == pages[1].content


def test_a_token_shown_as_authorization_opens_no_private_space(
    hub_emulator: HubEmulatorProcess,
) -> None:
    """Of the two headers the proxy knows only its own; the other is for the app."""
    with hub_emulator.open_client("alice") as alice:
        assert alice.get(f"{SPACE_PROXY_PATH}/alice-own/config").status_code == 404
