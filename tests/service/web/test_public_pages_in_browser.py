"""The public pages in a real browser: accessible, in both themes, with and without JavaScript."""

from collections.abc import Generator
from typing import Final, Literal

import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from tests.service.web.site import PUBLIC_URL, build_site
from tests.support.browser.accessibility import find_violations
from tests.support.browser.chromium import open_browser
from tests.support.http_server import serve_app

PHONE: Final = ViewportSize(width=390, height=844)
DESKTOP: Final = ViewportSize(width=1280, height=900)
OPEN_ALL: Final = "document.querySelectorAll('details').forEach(each => { each.open = true })"


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """One browser for the module."""
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def site_url() -> Generator[str]:
    """One service for the module: its pages have no state."""
    with serve_app(build_site()) as url:
        yield url


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/nothing"])
def test_a_page_has_no_accessibility_violation(
    browser: Browser, site_url: str, path: str, scheme: Literal["light", "dark"]
) -> None:
    page = browser.new_page(color_scheme=scheme, viewport=DESKTOP)
    page.goto(site_url + path)
    page.evaluate(OPEN_ALL)

    violations = find_violations(page)

    page.close()
    assert violations == []


def test_a_page_fits_a_phone_and_breaks_no_rule_of_its_policy(
    browser: Browser, site_url: str
) -> None:
    messages: list[str] = []
    page = browser.new_page(viewport=PHONE)
    page.on("console", lambda message: messages.append(message.text))
    page.goto(site_url)
    page.evaluate(OPEN_ALL)

    width = page.evaluate("document.documentElement.scrollWidth")
    violations = find_violations(page)

    page.close()
    assert width <= PHONE["width"]
    assert violations == []
    assert messages == []


def test_the_address_changes_with_a_click_and_the_theme_stays(
    browser: Browser, site_url: str
) -> None:
    page = browser.new_page(color_scheme="light")
    page.goto(site_url)

    page.get_by_label("Only tools that read").check()
    expect(page.locator("#address")).to_have_text(f"{PUBLIC_URL}/mcp/readonly?login")
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    page.reload()

    expect(page.locator("#address")).to_have_text(f"{PUBLIC_URL}/mcp/readonly?login")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.close()


def test_without_javascript_a_button_does_the_same(browser: Browser, site_url: str) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(site_url)

    page.get_by_label("Only tools that read").check()
    page.get_by_role("button", name="Update").click()

    expect(page.locator("#address")).to_have_text(f"{PUBLIC_URL}/mcp/readonly?login")
    page.close()


def test_the_keyboard_reaches_the_content_first(browser: Browser, site_url: str) -> None:
    page = browser.new_page()
    page.goto(site_url)

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.id") == "main"
    page.close()
