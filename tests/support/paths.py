"""Where the repository and its pages are, for tests that read them or start commands there."""

from pathlib import Path
from typing import Final

import schema

REPOSITORY: Final = Path(schema.__file__).resolve().parents[1]
DOCS: Final = REPOSITORY / "docs"
