"""The compose.yaml of the project, read by Docker Compose itself."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.paths import REPOSITORY


def read_compose(*options: str) -> dict[str, Any]:
    """Return the services of compose.yaml, as Docker Compose reads them with these options."""
    program = Path(sys.executable).with_name("docker-compose")
    command = [str(program), *options, "config", "--format", "json", "--no-env-resolution"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={"HOLDFAST_VAULT_KEYS": "1:x"},
        capture_output=True,
        text=True,
        check=True,
    )
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services
