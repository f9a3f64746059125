"""What one process has told somebody, another can tell; and nobody else can."""

import base64

import pytest

from service.runtime.confirmation_tokens import LASTS, Seals

NEW, OLD = b"n" * 32, b"o" * 32
TOLD = b"this may cost $4.00"
NOW = 1_800_000_000.0


def test_a_seal_is_known_to_every_process_with_the_key() -> None:
    """Two replicas share nothing but their keys."""
    seal = Seals([NEW]).write(TOLD, NOW)

    assert Seals([NEW]).name(seal, TOLD, NOW) is not None


def test_a_seal_outlives_the_rotation_of_its_key() -> None:
    """What was asked before the operator changed the ring is not asked again."""
    seal = Seals([OLD]).write(TOLD, NOW)

    assert Seals([NEW, OLD]).name(seal, TOLD, NOW) is not None
    assert Seals([NEW]).name(seal, TOLD, NOW) is None


def test_a_seal_is_of_one_thing() -> None:
    """Whoever agreed to four dollars has not agreed to five."""
    seals = Seals([NEW])

    assert seals.name(seals.write(TOLD, NOW), b"this may cost $5.00", NOW) is None


def test_a_seal_lasts_ten_minutes() -> None:
    """Afterwards it is another decision."""
    seals = Seals([NEW])
    seal, ends = seals.write(TOLD, NOW), NOW + LASTS.total_seconds()

    assert LASTS.total_seconds() == 600
    assert seals.name(seal, TOLD, ends) is not None
    assert seals.name(seal, TOLD, ends + 1) is None


def test_no_bit_of_a_seal_can_be_changed() -> None:
    """Not when it ends, and not what tells it from another."""
    seals = Seals([NEW])
    raw = base64.urlsafe_b64decode(seals.write(TOLD, NOW))

    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        forged = base64.urlsafe_b64encode(changed).decode()
        assert seals.name(forged, TOLD, NOW) is None, place


def test_a_seal_has_one_name_however_it_is_written() -> None:
    """By its name a launch is known again; two names would be two launches."""
    seals = Seals([NEW])
    seal = seals.write(TOLD, NOW)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spelled = f"{seal[:-2]}{letters[letters.index(seal[-2]) ^ 1]}="  # bits that encode nothing

    assert base64.urlsafe_b64decode(spelled) == base64.urlsafe_b64decode(seal)
    names = {seals.name(each, TOLD, NOW) for each in (seal, f" {seal}\n", spelled)}
    assert names == {seals.name(seal, TOLD, NOW)}
    assert seals.name(seals.write(TOLD, NOW), TOLD, NOW) not in names


@pytest.mark.parametrize("seal", ["", "x", "ä", "=" * 64, "A" * 64, "A" * 10_000])
def test_what_is_no_seal_is_refused(seal: str) -> None:
    """A model may write anything there."""
    assert Seals([NEW]).name(seal, TOLD, NOW) is None
