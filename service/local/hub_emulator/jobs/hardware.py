"""The hardware flavors of the real Hub, at its prices of August 2026."""

from dataclasses import dataclass
from typing import Any, Final

_MICRO_USD_PER_USD: Final = 1_000_000
_BYTES_PER_GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class LocalAccelerator:
    """The accelerator of a flavor, as it is described; this machine may have none."""

    model: str
    quantity: int
    vram_gb: int

    def to_dict(self) -> dict[str, str]:
        """Describe the accelerator as the Hub does, with numbers as text."""
        return {
            "type": "gpu",
            "model": self.model,
            "quantity": str(self.quantity),
            "vram": f"{self.vram_gb} GB",
            "manufacturer": "Nvidia",
        }


@dataclass(frozen=True, slots=True)
class LocalFlavor:
    """One kind of machine, as it is described; every job runs on this one."""

    name: str
    pretty_name: str
    cpus: int
    ram_gb: int
    disk_gb: int
    micro_usd_per_minute: int
    accelerator: LocalAccelerator | None = None

    @property
    def ram_bytes(self) -> int:
        """The memory in bytes; the Hub says GB and means GiB."""
        return self.ram_gb * _BYTES_PER_GIB

    def to_dict(self) -> dict[str, Any]:
        """Describe the flavor as `GET /api/jobs/hardware` does."""
        return {
            "name": self.name,
            "prettyName": self.pretty_name,
            "cpu": f"{self.cpus} vCPU",
            "ram": f"{self.ram_gb} GB",
            "ephemeralStorage": f"{self.disk_gb} GB",
            "accelerator": self.accelerator and self.accelerator.to_dict(),
            "unitCostMicroUSD": self.micro_usd_per_minute,
            "unitCostUSD": self.micro_usd_per_minute / _MICRO_USD_PER_USD,
            "unitLabel": "minute",
        }


def _gpu(model: str, vram_gb: int, quantity: int = 1) -> LocalAccelerator:
    return LocalAccelerator(model, quantity, vram_gb * quantity)


_RTX_PRO_6000: Final = "RTX PRO 6000"
FLAVORS: Final = {
    flavor.name: flavor
    for flavor in (
        LocalFlavor("cpu-basic", "CPU Basic", 2, 16, 50, 167),
        LocalFlavor("cpu-upgrade", "CPU Upgrade", 8, 32, 50, 500),
        LocalFlavor("cpu-performance", "CPU Performance", 32, 256, 1024, 31667),
        LocalFlavor("cpu-xl", "CPU XL", 16, 124, 1000, 16667),
        LocalFlavor("t4-small", "Nvidia T4 - small", 4, 15, 50, 6667, _gpu("T4", 16)),
        LocalFlavor("t4-medium", "Nvidia T4 - medium", 8, 30, 100, 10000, _gpu("T4", 16)),
        LocalFlavor("a10g-small", "Nvidia A10G - small", 4, 15, 110, 16667, _gpu("A10G", 24)),
        LocalFlavor("a10g-large", "Nvidia A10G - large", 12, 46, 200, 25000, _gpu("A10G", 24)),
        LocalFlavor(
            "a10g-largex2", "2x Nvidia A10G - large", 24, 92, 1000, 50000, _gpu("A10G", 24, 2)
        ),
        LocalFlavor(
            "a10g-largex4", "4x Nvidia A10G - large", 48, 184, 2000, 83334, _gpu("A10G", 24, 4)
        ),
        LocalFlavor("a100-large", "Nvidia A100 - large", 12, 142, 1000, 41667, _gpu("A100", 80)),
        LocalFlavor("a100x4", "4x Nvidia A100", 48, 568, 4000, 166667, _gpu("A100", 80, 4)),
        LocalFlavor("a100x8", "8x Nvidia A100", 96, 1136, 8000, 333333, _gpu("A100", 80, 8)),
        LocalFlavor("h200", "Nvidia H200", 23, 256, 3000, 83333, _gpu("H200", 141)),
        LocalFlavor("h200x2", "2x Nvidia H200", 46, 512, 6000, 166667, _gpu("H200", 141, 2)),
        LocalFlavor("h200x4", "4x Nvidia H200", 92, 1024, 12000, 333333, _gpu("H200", 141, 4)),
        LocalFlavor("h200x8", "8x Nvidia H200", 184, 2048, 24000, 666667, _gpu("H200", 141, 8)),
        LocalFlavor(
            "rtx-pro-6000", "Nvidia RTX PRO 6000", 23, 256, 475, 45833, _gpu(_RTX_PRO_6000, 96)
        ),
        LocalFlavor(
            "rtx-pro-6000x2",
            "2x Nvidia RTX PRO 6000",
            46,
            512,
            950,
            91667,
            _gpu(_RTX_PRO_6000, 96, 2),
        ),
        LocalFlavor(
            "rtx-pro-6000x4",
            "4x Nvidia RTX PRO 6000",
            92,
            1024,
            1900,
            183333,
            _gpu(_RTX_PRO_6000, 96, 4),
        ),
        LocalFlavor(
            "rtx-pro-6000x8",
            "8x Nvidia RTX PRO 6000",
            184,
            2048,
            3800,
            366667,
            _gpu(_RTX_PRO_6000, 96, 8),
        ),
        LocalFlavor("l4x1", "1x Nvidia L4", 8, 30, 400, 13333, _gpu("L4", 24)),
        LocalFlavor("l4x4", "4x Nvidia L4", 48, 186, 3200, 63333, _gpu("L4", 24, 4)),
        LocalFlavor("l40sx1", "1x Nvidia L40S", 8, 62, 380, 30000, _gpu("L40S", 48)),
        LocalFlavor("l40sx4", "4x Nvidia L40S", 48, 382, 3200, 138333, _gpu("L40S", 48, 4)),
        LocalFlavor("l40sx8", "8x Nvidia L40S", 192, 1534, 6500, 391666, _gpu("L40S", 48, 8)),
    )
}
