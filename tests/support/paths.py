"""The folders of the repository, for tests that read its files or start commands in it."""

from pathlib import Path
from typing import Final

import schema
import service
import workers

PACKAGE_FOLDERS: Final = tuple(
    Path(package.__path__[0]).resolve() for package in (schema, service, workers)
)
REPOSITORY: Final = PACKAGE_FOLDERS[0].parent
DOCS: Final = REPOSITORY / "docs"
