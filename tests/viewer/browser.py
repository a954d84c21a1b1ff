"""A real headless Chromium without network, that keeps whatever a page did it should not have."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WATCH = """
window.wrongs = [];
document.addEventListener("securitypolicyviolation", (event) => wrongs.push(`policy: ${event.violatedDirective}`));
"""


@contextmanager
def chromium() -> Iterator[Any]:
    """Skips the test where Playwright or Chromium is missing."""
    api: Any = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def until(page: Any, expression: str) -> None:
    """Waits until the expression is true; Playwright's own way is eval, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"never true: {expression}")


@contextmanager
def opened(browser: Any, path: Path, place: str = "", tolerated: str = "", **context: Any) -> Iterator[Any]:
    """The report at a place of it. Fails if the page asked for anything, ran into an error, opened a dialog, broke its
    own policy, or if an attack succeeded. Wrongs that begin with `tolerated` are what the test is about."""
    wrongs: list[str] = []
    inside = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context)
    own = path.as_uri()

    def decide(route: Any) -> None:
        if route.request.url.split("#")[0] == own:
            route.continue_()
        else:
            wrongs.append(f"request: {route.request.url[:100]}")
            route.abort()

    inside.route("**/*", decide)
    page = inside.new_page()
    page.add_init_script(WATCH)
    page.on("pageerror", lambda error: wrongs.append(f"error: {error}"))
    page.on("console", lambda line: wrongs.append(f"console: {line.text}") if line.type == "error" else None)
    page.on("dialog", lambda dialog: (wrongs.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("popup", lambda other: wrongs.append(f"popup: {other.url}"))
    try:
        page.goto(own + place)
        yield page
        page.wait_for_timeout(50)
        wrongs += page.evaluate("window.wrongs")
        if page.evaluate("'hacked' in window"):
            wrongs.append("an attack ran")
        if page.url.split("#")[0] != own:
            wrongs.append(f"it went to {page.url}")
    finally:
        inside.close()
    wrongs = [wrong for wrong in wrongs if not tolerated or not wrong.startswith(tolerated)]
    assert not wrongs, wrongs
