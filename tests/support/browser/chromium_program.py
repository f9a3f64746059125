"""The system's Chromium; the whole suite installs it where it may."""

import os
import shutil
import subprocess
from typing import Final

import pytest

_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_INSTALL_SECONDS: Final = 300
_INSTALL_COMMANDS: Final = (
    ("apt-get", "update", "-q"),
    ("apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium"),
)


def find_chromium() -> str | None:
    """Return the path of the program; None if there is none."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


def pytest_configure(config: pytest.Config) -> None:
    """Install Chromium before a run of the whole suite, where that needs nobody's leave."""
    is_controller = not hasattr(config, "workerinput")
    is_whole_suite = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if is_controller and is_whole_suite and find_chromium() is None and _may_install():
        for command in _INSTALL_COMMANDS:
            try:
                subprocess.run(command, capture_output=True, timeout=_INSTALL_SECONDS, check=True)
            except (OSError, subprocess.SubprocessError):
                return  # the tests that need it say that they are left out, and why


def _may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None
