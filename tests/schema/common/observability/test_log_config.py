"""What never reaches a log line."""

import pytest

from schema.common.observability import log_config


@pytest.mark.parametrize(
    "text",
    [
        "GET failed with hf_AbCdEfGh1234",
        "Authorization: Bearer eyJhbGciOi.x.y",
        "token=hf_oauth__refresh_abcdef",
    ],
)
def test_what_looks_like_a_token_is_masked_wherever_it_stands(text: str) -> None:
    """Errors of libraries quote requests; a log is read by many."""
    masked_text = log_config.mask_tokens(None, "", {"event": "call.failed", "error": text})["error"]

    assert "…" in masked_text
    assert all(part not in masked_text for part in ("AbCdEfGh1234", "eyJhbGciOi", "refresh_abcdef"))


def test_what_is_no_token_is_left_alone() -> None:
    """Masking that eats ordinary words makes logs useless."""
    event = {"event": "run.found", "surplus": 0, "remote": "6a31d7ef5ff0a6cf94f9f8b9"}

    assert log_config.mask_tokens(None, "", dict(event)) == event
