"""What is sealed opens for its owner, under a key of the ring, and for nobody else."""

import os
import pickle
from base64 import b64encode
from itertools import pairwise

import pytest

from schema.accounts.vault import Secret, Unsealable, Vault

SECRET = Secret("hf_secret")


def make_key(name: str) -> str:
    return f"{name}:{b64encode(os.urandom(32)).decode()}"


def test_a_secret_opens_as_it_was_sealed_and_never_looks_the_same() -> None:
    """Two users with one token must not be recognisable by their rows."""
    vault = Vault.from_key_ring(make_key("1"))

    sealed, again = vault.seal(SECRET, owner="ada"), vault.seal(SECRET, owner="ada")

    assert vault.open(sealed, owner="ada").reveal() == "hf_secret"
    assert sealed != again
    assert b"hf_secret" not in sealed


def test_a_sealed_secret_moved_to_another_owner_does_not_open() -> None:
    """Whoever can write the table must not borrow somebody's token."""
    vault = Vault.from_key_ring(make_key("1"))

    with pytest.raises(Unsealable):
        vault.open(vault.seal(SECRET, owner="ada"), owner="bob")


@pytest.mark.parametrize("place", [0, 1, 3, 20, -1])
def test_a_sealed_secret_that_was_changed_does_not_open(place: int) -> None:
    """One flipped bit, wherever it is."""
    vault = Vault.from_key_ring(make_key("1"))
    sealed = bytearray(vault.seal(SECRET, owner="ada"))
    sealed[place] ^= 1

    with pytest.raises(Unsealable):
        vault.open(bytes(sealed), owner="ada")


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01\x09", b"\x02" * 99])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    """A damaged row is an answer, not a crash."""
    with pytest.raises(Unsealable):
        Vault.from_key_ring(make_key("1")).open(sealed, owner="ada")


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    """Rotation is putting a key in front; nobody has to sign in again."""
    old, new = make_key("1"), make_key("2")
    sealed = Vault.from_key_ring(old).seal(SECRET, owner="ada")

    both = Vault.from_key_ring(f"{new},{old}")

    assert both.open(sealed, owner="ada").reveal() == "hf_secret"
    with pytest.raises(Unsealable):
        Vault.from_key_ring(old).open(both.seal(SECRET, owner="ada"), owner="ada")


def test_the_documented_order_of_a_rotation_works_one_process_after_another() -> None:
    """docs/operate.md: at each step some processes have the ring of the step before."""
    old, new = make_key("1"), make_key("2")
    rings = [old, f"{old},{new}", f"{new},{old}"]
    vaults = [Vault.from_key_ring(ring) for ring in rings]

    for before, after in pairwise(vaults):
        for sealing, opening in ((before, after), (after, before)):
            sealed = sealing.seal(SECRET, owner="ada")
            assert opening.open(sealed, owner="ada").reveal() == "hf_secret"
    rotated = vaults[-1].seal(SECRET, owner="ada")
    assert Vault.from_key_ring(new).open(rotated, owner="ada").reveal() == "hf_secret"


@pytest.mark.parametrize("ring", ["", ",", "1", "1:short", "1:!!!", f"{'x' * 300}:{'A' * 43}="])
def test_a_ring_that_cannot_be_used_is_refused_at_the_start(ring: str) -> None:
    """Not with the first token of the day."""
    with pytest.raises(ValueError, match="key"):
        Vault.from_key_ring(ring)


def test_a_secret_does_not_print_or_pickle_itself() -> None:
    """The accidents by which secrets get into logs and queues."""
    assert "hf_secret" not in f"{SECRET} {SECRET!r} {[SECRET]}"
    with pytest.raises(TypeError):
        pickle.dumps(SECRET)


def test_a_digest_tells_only_whether_a_secret_is_the_same() -> None:
    """Not to another owner, and to nobody without the key."""
    vault, other_vault = (Vault.from_key_ring(make_key("1")) for _ in range(2))

    digest = vault.digest(SECRET, owner="ada")

    assert vault.may_have_digest(digest, SECRET, owner="ada")
    assert not vault.may_have_digest(digest, Secret("hf_other"), owner="ada")
    assert not vault.may_have_digest(digest, SECRET, owner="bob")
    assert digest != vault.digest(SECRET, owner="bob")
    assert digest != other_vault.digest(SECRET, owner="ada")
    assert "hf_secret" not in digest


def test_a_digest_outlives_a_rotation_and_says_nothing_once_its_key_is_gone() -> None:
    """A request that is repeated meanwhile must not be taken for another one."""
    old_key, new_key, key_of_the_same_id = make_key("1"), make_key("2"), make_key("1")
    digest = Vault.from_key_ring(old_key).digest(SECRET, owner="ada")

    rotated = Vault.from_key_ring(f"{new_key},{old_key}")
    assert rotated.may_have_digest(digest, SECRET, owner="ada")
    assert not rotated.may_have_digest(digest, Secret("hf_other"), owner="ada")
    for ring in (new_key, key_of_the_same_id):
        assert Vault.from_key_ring(ring).may_have_digest(digest, SECRET, owner="ada")
