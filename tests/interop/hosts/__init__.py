"""Programs of other makers that host a model: what they make of our configurations.

They are large, so `python3 -m tests.interop.hosts` installs and runs them, and no other command.
"""

import json
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent
PACKAGES: Final[dict[str, str]] = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))[
    "dependencies"
]
"""The version of each package."""
