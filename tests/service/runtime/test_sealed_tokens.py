"""What one process has sealed, another one opens; nobody else can make, read or change it."""

import base64

import pytest

from service.runtime.sealed_tokens import CONFIRMATION_LIFETIME, ConfirmationTokens, SealedTokens

NEW_KEY, OLD_KEY = b"n" * 32, b"o" * 32
PAYLOAD = b"this may cost $4.00"
NOW_SECONDS = 1_800_000_000.0
PREFIX = "v1."


def decode(token: str) -> bytes:
    """Return the bytes of a token, from the key id to the tag."""
    text = token.removeprefix(PREFIX)
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encode(raw: bytes) -> str:
    """Write bytes as the token that they would be."""
    return PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def test_a_sealed_token_opens_in_every_process_with_the_key() -> None:
    """Two replicas share nothing but their keys."""
    token = ConfirmationTokens([NEW_KEY]).issue(PAYLOAD, NOW_SECONDS)

    assert ConfirmationTokens([NEW_KEY]).verify(token, PAYLOAD, NOW_SECONDS) is not None


def test_a_sealed_token_outlives_the_rotation_of_its_key() -> None:
    """What was asked before the operator changed the ring is not asked again."""
    token = ConfirmationTokens([OLD_KEY]).issue(PAYLOAD, NOW_SECONDS)

    assert ConfirmationTokens([NEW_KEY, OLD_KEY]).verify(token, PAYLOAD, NOW_SECONDS) is not None
    assert ConfirmationTokens([NEW_KEY]).verify(token, PAYLOAD, NOW_SECONDS) is None


def test_a_sealed_token_opens_for_its_own_payload_only() -> None:
    """Whoever agreed to four dollars has not agreed to five."""
    tokens = ConfirmationTokens([NEW_KEY])
    token = tokens.issue(PAYLOAD, NOW_SECONDS)

    assert tokens.verify(token, b"this may cost $5.00", NOW_SECONDS) is None


def test_a_sealed_token_lasts_ten_minutes() -> None:
    """Afterwards it is another decision."""
    tokens = ConfirmationTokens([NEW_KEY])
    token = tokens.issue(PAYLOAD, NOW_SECONDS)
    expires_at = NOW_SECONDS + CONFIRMATION_LIFETIME.total_seconds()

    assert CONFIRMATION_LIFETIME.total_seconds() == 600
    assert tokens.verify(token, PAYLOAD, expires_at) is not None
    assert tokens.verify(token, PAYLOAD, expires_at + 1) is None


def test_no_bit_of_a_sealed_token_can_be_changed() -> None:
    """Neither the expiry, nor the id that tells it from another token."""
    tokens = ConfirmationTokens([NEW_KEY])
    token = tokens.issue(PAYLOAD, NOW_SECONDS)
    raw = decode(token)

    assert encode(raw) == token
    for position in range(len(raw)):
        changed = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        assert tokens.verify(encode(changed), PAYLOAD, NOW_SECONDS) is None, position


def test_a_sealed_token_has_one_id_however_it_is_written() -> None:
    """A launch is recognized by this id; two ids would be two launches."""
    tokens = ConfirmationTokens([NEW_KEY])
    token = tokens.issue(PAYLOAD, NOW_SECONDS)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    respelled = f"{token[:-1]}{alphabet[alphabet.index(token[-1]) ^ 1]}"  # a bit without meaning

    assert decode(respelled) == decode(token)
    assert tokens.verify(respelled, PAYLOAD, NOW_SECONDS) is None
    assert tokens.verify(f"{token}=", PAYLOAD, NOW_SECONDS) is None
    confirmation_ids = {
        tokens.verify(text, PAYLOAD, NOW_SECONDS) for text in (token, f" {token}\n")
    }
    assert len(confirmation_ids - {None}) == len(confirmation_ids) == 1
    other = tokens.issue(PAYLOAD, NOW_SECONDS)
    assert tokens.verify(other, PAYLOAD, NOW_SECONDS) not in confirmation_ids


@pytest.mark.parametrize(
    "text", ["", "x", "ä", "=" * 64, "A" * 64, "A" * 10_000, "v1.", "v1.ä", "v1." + "A" * 106]
)
def test_what_is_no_sealed_token_is_refused(text: str) -> None:
    """A model may write anything there."""
    assert ConfirmationTokens([NEW_KEY]).verify(text, PAYLOAD, NOW_SECONDS) is None


def test_nothing_can_be_read_in_a_sealed_token() -> None:
    """The payload is encrypted, and comes back as it was."""
    tokens = SealedTokens([NEW_KEY])
    token = tokens.seal(PAYLOAD, expires_at=NOW_SECONDS)

    assert PAYLOAD not in decode(token)
    assert tokens.unseal(token, now=NOW_SECONDS) == PAYLOAD
