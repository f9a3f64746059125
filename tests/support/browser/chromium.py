"""Chromium of the system, driven by Playwright."""

import os
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.browser.chromium_program import find_chromium


@contextmanager
def open_browser() -> Generator[Browser]:
    """Open a browser, or skip the test."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium (apt install chromium), so no page was looked at in a browser")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()
