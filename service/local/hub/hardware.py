"""What the local Hub says it has: a few flavors at the prices the real one asked in August 2026."""

from dataclasses import dataclass
from typing import Any, Final

_MICRO: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Flavor:
    """One kind of machine; here it is always this one."""

    name: str
    pretty_name: str
    cpus: int
    ram_gb: int
    micro_usd_per_minute: int
    gpu: str | None = None

    def described(self) -> dict[str, Any]:
        """Describe it as `GET /api/jobs/hardware` does."""
        accelerator = self.gpu and {
            "type": "gpu",
            "model": self.gpu,
            "quantity": "1",
            "vram": "24 GB",
            "manufacturer": "Nvidia",
        }
        return {
            "name": self.name,
            "prettyName": self.pretty_name,
            "cpu": f"{self.cpus} vCPU",
            "ram": f"{self.ram_gb} GB",
            "ephemeralStorage": "50 GB",
            "accelerator": accelerator,
            "unitCostMicroUSD": self.micro_usd_per_minute,
            "unitCostUSD": self.micro_usd_per_minute / _MICRO,
            "unitLabel": "minute",
        }


FLAVORS: Final = {
    flavor.name: flavor
    for flavor in (
        Flavor("cpu-basic", "CPU Basic", 2, 16, 167),
        Flavor("cpu-upgrade", "CPU Upgrade", 8, 32, 500),
        Flavor("t4-small", "Nvidia T4 - small", 4, 15, 6667, "T4"),
        Flavor("l4x1", "1x Nvidia L4", 8, 30, 13333, "L4"),
        Flavor("a10g-small", "Nvidia A10G - small", 4, 15, 16667, "A10G"),
        Flavor("a100-large", "Nvidia A100 - large", 12, 142, 41667, "A100"),
    )
}
