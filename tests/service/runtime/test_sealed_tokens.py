"""What one process has told somebody, another can tell; and nobody else can."""

import base64

import pytest

from service.runtime.confirmation_tokens import CONFIRMATION_LIFETIME, ConfirmationTokens

NEW_KEY, OLD_KEY = b"n" * 32, b"o" * 32
PAYLOAD = b"this may cost $4.00"
NOW_SECONDS = 1_800_000_000.0


def test_a_sealed_token_opens_in_every_process_with_the_key() -> None:
    """Two replicas share nothing but their keys."""
    seal = ConfirmationTokens([NEW_KEY]).issue(PAYLOAD, NOW_SECONDS)

    assert ConfirmationTokens([NEW_KEY]).verify(seal, PAYLOAD, NOW_SECONDS) is not None


def test_a_sealed_token_outlives_the_rotation_of_its_key() -> None:
    """What was asked before the operator changed the ring is not asked again."""
    seal = ConfirmationTokens([OLD_KEY]).issue(PAYLOAD, NOW_SECONDS)

    assert ConfirmationTokens([NEW_KEY, OLD_KEY]).verify(seal, PAYLOAD, NOW_SECONDS) is not None
    assert ConfirmationTokens([NEW_KEY]).verify(seal, PAYLOAD, NOW_SECONDS) is None


def test_a_sealed_token_opens_for_its_own_payload_only() -> None:
    """Whoever agreed to four dollars has not agreed to five."""
    seals = ConfirmationTokens([NEW_KEY])

    assert (
        seals.verify(seals.issue(PAYLOAD, NOW_SECONDS), b"this may cost $5.00", NOW_SECONDS) is None
    )


def test_a_sealed_token_lasts_ten_minutes() -> None:
    """Afterwards it is another decision."""
    seals = ConfirmationTokens([NEW_KEY])
    seal, ends = (
        seals.issue(PAYLOAD, NOW_SECONDS),
        NOW_SECONDS + CONFIRMATION_LIFETIME.total_seconds(),
    )

    assert CONFIRMATION_LIFETIME.total_seconds() == 600
    assert seals.verify(seal, PAYLOAD, ends) is not None
    assert seals.verify(seal, PAYLOAD, ends + 1) is None


def test_no_bit_of_a_sealed_token_can_be_changed() -> None:
    """Not when it ends, and not what tells it from another."""
    seals = ConfirmationTokens([NEW_KEY])
    raw = base64.urlsafe_b64decode(seals.issue(PAYLOAD, NOW_SECONDS))

    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        forged = base64.urlsafe_b64encode(changed).decode()
        assert seals.verify(forged, PAYLOAD, NOW_SECONDS) is None, place


def test_a_sealed_token_has_one_id_however_it_is_written() -> None:
    """By its name a launch is known again; two names would be two launches."""
    seals = ConfirmationTokens([NEW_KEY])
    seal = seals.issue(PAYLOAD, NOW_SECONDS)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spelled = f"{seal[:-2]}{letters[letters.index(seal[-2]) ^ 1]}="  # bits that encode nothing

    assert base64.urlsafe_b64decode(spelled) == base64.urlsafe_b64decode(seal)
    names = {seals.verify(each, PAYLOAD, NOW_SECONDS) for each in (seal, f" {seal}\n", spelled)}
    assert names == {seals.verify(seal, PAYLOAD, NOW_SECONDS)}
    assert seals.verify(seals.issue(PAYLOAD, NOW_SECONDS), PAYLOAD, NOW_SECONDS) not in names


@pytest.mark.parametrize("seal", ["", "x", "ä", "=" * 64, "A" * 64, "A" * 10_000])
def test_what_is_no_sealed_token_is_refused(seal: str) -> None:
    """A model may write anything there."""
    assert ConfirmationTokens([NEW_KEY]).verify(seal, PAYLOAD, NOW_SECONDS) is None
