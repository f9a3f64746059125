"""What every page has: headers, escaping, files that are what they are called, and errors."""

import hashlib
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schema.common.errors import RateLimited, Unavailable
from service.http.pages.rendering import TEMPLATES_FOLDER, render_template
from service.http.pages.static_files import STATIC_FOLDER, load_static_files
from service.web.errors import respond_with_failure
from tests.service.web.site import open_site
from tests.support.browser.accessibility import VENDOR_FOLDER

VENDOR_FOLDERS = (STATIC_FOLDER / "vendor", VENDOR_FOLDER)
TEMPLATES = sorted(TEMPLATES_FOLDER.rglob("*.html"))
LINKED_FILE = re.compile(r'(?:src|href)="(/static/[^"]+)"')


@pytest.mark.parametrize("path", ["/", "/nothing", "/?toolsets=jobs&client=curl"])
async def test_a_page_is_kept_by_nobody_and_shown_in_no_frame(path: str) -> None:
    with open_site() as http:
        answer = await http.get(path)

    policy = answer.headers["content-security-policy"]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert "base-uri 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_code_and_no_style_within_it(template: Path) -> None:
    """The policy would refuse them; and an address of another host would tell that of ours."""
    text = template.read_text(encoding="utf-8")

    assert re.findall(r"<style|<script(?! src=)|\sstyle=|\son[a-z]+=|hx-on|javascript:", text) == []
    assert re.findall(r"(?:src|href|action)=\"(?:https?:)?//", text) == []
    assert re.findall(r"\|\s*safe|autoescape", text) == []


def test_a_value_in_a_page_is_text() -> None:
    page = render_template(
        "error.html",
        title="<script>alert(1)</script>",
        sentence='"><img src=x onerror=alert(1)>',
        code=404,
        link="/",
        link_text="Front page",
    )

    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;img" in page


async def test_a_file_has_an_address_of_its_content_and_stays_in_the_cache() -> None:
    with open_site() as http:
        addresses = LINKED_FILE.findall((await http.get("/")).text)
        files = [await http.get(address) for address in addresses]
        other = await http.get("/static/0000000000000000/app.css")

    assert len(addresses) >= 5
    for address, file in zip(addresses, files, strict=True):
        assert file.status_code == 200
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert file.headers["x-content-type-options"] == "nosniff"
        assert hashlib.sha256(file.content).hexdigest().startswith(address.split("/")[2])
    assert other.status_code == 404


@pytest.mark.parametrize("name", ["../templates/base.html", "vendor/vendored.json"])
async def test_nothing_but_static_files_is_served(name: str) -> None:
    digest = hashlib.sha256((STATIC_FOLDER / name).read_bytes()).hexdigest()[:16]

    with open_site() as http:
        answer = await http.get(f"/static/{digest}/{name.replace('..', '%2e%2e')}")

    assert answer.status_code == 404


@pytest.mark.parametrize("folder", VENDOR_FOLDERS, ids=lambda path: path.parent.name)
def test_a_library_of_others_is_the_one_that_is_noted(folder: Path) -> None:
    """Its package, version, licence and digest stand in a file, and the bytes have that digest."""
    notes: list[dict[str, Any]] = json.loads((folder / "vendored.json").read_text("utf-8"))

    assert {path.name for path in folder.glob("*.js")} == {note["file"] for note in notes}
    for note in notes:
        content = (folder / note["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == note["sha256"], note["package"]
        assert (folder / note["license_file"]).read_text("utf-8").strip()
        assert note["license"]
        assert re.fullmatch(r"\d+\.\d+\.\d+", note["version"])


def test_every_static_file_is_loaded_once() -> None:
    assert {"app.css", "app.js", "theme.js", "icon.svg", "vendor/htmx.min.js"} <= {
        *load_static_files()
    }


async def test_a_program_that_finds_nothing_gets_a_line_and_a_person_a_page() -> None:
    with open_site() as http:
        page = await http.get("/nothing")
        line = await http.get("/nothing", headers={"accept": "application/json"})

    assert (page.status_code, line.status_code) == (404, 404)
    assert "<h1>Nothing here</h1>" in page.text
    assert line.text == "Not Found"


def test_a_failure_says_when_to_come_back() -> None:
    too_often = respond_with_failure(
        RateLimited(limit=10, window=timedelta(minutes=1), retry_after=timedelta(seconds=5))
    )
    away = respond_with_failure(Unavailable("The database"))

    assert (too_often.status_code, away.status_code) == (429, 503)
    assert "retry-after" in too_often.headers
    assert too_often.headers["cache-control"] == away.headers["cache-control"] == "no-store"
    assert b"Too many requests" in too_often.body
