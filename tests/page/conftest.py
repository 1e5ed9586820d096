"""The operator's page in a real browser, over a local cloud that runs."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import chromium, executable, sign_in
from tests.support.site import Site, open_site

PATIENCE_MS = 10_000
OWN = ("data:", "blob:")
"""What a page may load besides the site: what it has made itself."""

EXPECTED_ERROR = "Failed to load resource"
"""Chromium's console message for every answer with a status above 399."""

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Starts Chromium. Skips if it is not installed; fails instead with SLUICE_REQUIRE_ALL=1, as CI sets it."""
    path = executable()
    if path is None and os.environ.get("SLUICE_REQUIRE_ALL") == "1":
        pytest.fail("Chromium is not installed, and SLUICE_REQUIRE_ALL is set")
    if path is None:
        pytest.skip("Chromium is not installed")
    expect.set_options(timeout=PATIENCE_MS)
    with chromium(path) as browser:
        yield browser


@pytest.fixture
def site() -> Iterator[Site]:
    with open_site() as site:
        yield site


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[OpenPage]:
    """Opens the page in a fresh browser profile. Fails if a page raised an error or called another host."""
    complaints: list[str] = []
    contexts = []

    def opened(view: str = "now", *, token: str | None = None, **context: Any) -> Page:
        contexts.append(browser.new_context(**({"viewport": {"width": 1200, "height": 900}} | context)))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on(
            "console",
            lambda said: (
                complaints.append(said.text)
                if said.type in ("error", "warning") and EXPECTED_ERROR not in said.text
                else None
            ),
        )
        page.on(
            "request",
            lambda sent: complaints.append(f"asked {sent.url}") if not sent.url.startswith((site.url, *OWN)) else None,
        )
        page.goto(f"{site.url}#{view}")
        if token != "":
            sign_in(page, token or site.operator)
            page.wait_for_selector(f"#view-{view.partition('/')[0]}:visible")
            page.wait_for_selector("#enforcing:visible")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
