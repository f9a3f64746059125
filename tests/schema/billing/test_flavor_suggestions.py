"""Which hardware was meant: the nearest, and of what is equally near the cheapest first."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.billing.flavor_suggestions import FlavorTraits, read_number, suggest_flavors
from service.local.hub_emulator.jobs.hardware import FLAVORS

TRAITS: Final = [
    FlavorTraits(
        name=flavor.name,
        gpu_model=flavor.accelerator.model if flavor.accelerator else None,
        gpu_count=flavor.accelerator.quantity if flavor.accelerator else 0,
        gpu_memory_gb=flavor.accelerator.vram_gb if flavor.accelerator else 0,
        price_micro_usd=flavor.micro_usd_per_minute,
    )
    for flavor in FLAVORS.values()
]
PRICES: Final = {flavor.name: flavor.price_micro_usd for flavor in TRAITS}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a100", ["a100-large", "a100x4", "a100x8"]),
        ("Nvidia A100 (80GB)", ["a100-large", "a100x4", "a100x8"]),
        ("a100x1", ["a100-large"]),
        ("a100x2", ["a100-large", "a100x4", "a100x8"]),
        ("a100x8-large", ["a100x8"]),
        ("l4", ["l4x1", "l4x4"]),
        ("4xL4", ["l4x4"]),
        ("l40", ["l40sx1", "l40sx4", "l40sx8"]),
        ("l40s", ["l40sx1", "l40sx4", "l40sx8"]),
        ("t4", ["t4-small", "t4-medium"]),
        ("t4-large", ["t4-small", "t4-medium"]),
        ("h100x8", ["a100x8", "h200x8"]),
        ("2x a10g", ["a10g-largex2"]),
        ("a10-small", ["a10g-small"]),
        ("a10g-large-x4", ["a10g-largex4"]),
        ("rtx6000", ["rtx-pro-6000", "rtx-pro-6000x2", "rtx-pro-6000x4"]),
        ("24GB", ["l4x1", "a10g-small", "a10g-large"]),
        ("80 GB", ["a100-large", "rtx-pro-6000", "l4x4"]),
        ("gpu", ["t4-small", "t4-medium", "l4x1"]),
        ("gpu-small", ["t4-small", "a10g-small"]),
        ("cpu", ["cpu-basic", "cpu-upgrade", "cpu-xl"]),
        ("cpu-baisc", ["cpu-basic"]),
        ("small", ["t4-small", "a10g-small"]),
        ("zero-a10g", ["a10g-small", "a10g-large", "a10g-largex2"]),
        ("tpu-v5", []),
        ("2000GB", []),
        ("", []),
    ],
)
def test_the_nearest_flavors_are_suggested_and_the_cheapest_first(
    written: str, meant: list[str]
) -> None:
    """Whoever takes the first suggestion pays for it."""
    assert suggest_flavors(written, TRAITS) == meant


@given(
    st.one_of(
        st.text(max_size=80),
        st.lists(
            st.sampled_from(["a100", "h100", "l4", "gpu", "24gb", "x8", "4x", "small", "-", " "])
        ).map("".join),
    )
)
def test_the_first_suggestion_is_never_dearer_than_another(written: str) -> None:
    """Whatever is written, only flavors that there are come back, three at most."""
    names = suggest_flavors(written, TRAITS)

    assert [PRICES[name] for name in names] == sorted(PRICES[name] for name in names)
    assert len(names) <= 3


def test_a_number_is_read_from_what_the_hub_writes() -> None:
    """The Hub writes amounts as texts."""
    assert [read_number(text) for text in ("24 GB", "8", "many")] == [24, 8, 0]
