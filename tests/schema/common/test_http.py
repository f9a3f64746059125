"""Which URLs are safe to learn keys from."""

import pytest

from schema.common.http import is_secure_url


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example/realms/a",
        "http://localhost:8080",
        "http://127.0.0.1:1/jwks",
        "http://127.8.8.8",
        "http://[::1]:1/jwks",
    ],
)
def test_nobody_changes_what_comes_by_tls_or_from_this_machine(url: str) -> None:
    """Whoever changes a key on the way can be anybody."""
    assert is_secure_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "id.example",
        "http://id.example",
        "http://localhost.evil.example",
        "http://127.0.0.1@evil.example",
        "https://user:password@id.example",
        "https://id.example/#a",
        "https://",
        "https://[bad",
        "file:///etc/passwd",
        "ftp://127.0.0.1/jwks",
    ],
)
def test_every_other_url_is_refused(url: str) -> None:
    """What looks like this machine need not be it, and a user's name hides the host."""
    assert not is_secure_url(url)
