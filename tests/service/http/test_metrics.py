"""The page of metrics, where nobody has asked for it."""

from tests.support.factories import StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.polling import HTTP_TIMEOUT_SECONDS


async def test_without_a_token_in_the_settings_there_is_no_page(
    start_service: StartService,
) -> None:
    """The default shows nothing: a service is mostly reachable for everybody."""
    with start_service() as url:
        async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
            answer = await http.get(f"{url}/metrics")

    assert answer.status_code == 404
