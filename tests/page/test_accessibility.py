"""The operator's page against the rules of axe-core, in every view and every look."""

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Page, expect

from chalicelib.core.responses import Response
from chalicelib.core.state.blocks import Members
from sluice.cli import main
from tests.page.conftest import OpenPage
from tests.support import replay_logs as logs
from tests.support.local_server import ROOT
from tests.support.site import Site

AXE = ROOT / ".cache" / "axe-core" / "axe.min.js"
VIEWS = ("now", "blocks", "history", "client/198.51.100.0%2F24", "client/198.51.100.7", "allowlist", "rules", "audit")
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}, "is_mobile": True},
    "forced colours": {"forced_colors": "active"},
}


@pytest.fixture(scope="module")
def axe() -> str:
    """Returns the checker. Skips if it was not fetched, or fails with SLUICE_REQUIRE_ALL=1, as CI sets it."""
    missing = f"there is no {AXE.relative_to(ROOT)}; 'make dev' fetches it"
    if not AXE.exists() and os.environ.get("SLUICE_REQUIRE_ALL") == "1":
        pytest.fail(f"SLUICE_REQUIRE_ALL is set, and {missing}")
    if not AXE.exists():
        pytest.skip(missing)
    return AXE.read_text(encoding="utf-8")


def furnish(site: Site) -> None:
    """Fills every view: blocks of each kind, a stopped rule, what cannot be read, an offence, changes by operators."""
    site.put_blocks("203.0.113.9/32", "2001:db8:0:1::/64", softer={Response.CHALLENGE: 2_000_000_000})
    site.put_blocks("198.51.100.0/24", rule="[networks]", members=Members(number=9, named=("198.51.100.7/32",)))
    site.put_unreadable("allow", "192.0.2.0/24", b"{")
    site.put_malformed(b"no line", b"no line either")
    site.stop_rule("burst")
    site.attack("198.51.100.7")


def violations(page: Page) -> list[str]:
    """Returns what axe-core finds in the page as it is."""
    page.evaluate("() => Promise.all(document.getAnimations().map((each) => each.finished))")
    results = page.evaluate("() => axe.run(document)")
    return [f"{each['id']}: {node['html'][:200]}" for each in results["violations"] for node in each["nodes"]]


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_in_any_view(open_page: OpenPage, site: Site, axe: str, look: str) -> None:
    furnish(site)
    page = open_page("allowlist", reduced_motion="reduce", **LOOKS[look])
    page.evaluate(axe)
    form = page.get_by_role("form", name="Add to the allowlist")
    form.get_by_label("Network").fill("192.0.2.7")
    form.get_by_role("button", name="Allow").click()
    expect(page.locator(".notice")).to_be_visible()
    seen = {}
    for view in VIEWS:
        page.goto(f"{site.url}#{view}")
        expect(page.locator(f"#view-{view.partition('/')[0]}")).to_be_visible()
        page.wait_for_load_state("networkidle")
        seen[view] = violations(page)
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    seen["dialog"] = violations(page)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#sign-in")).to_be_visible()
    seen["sign-in"] = violations(page)
    assert {view: each for view, each in seen.items() if each} == {}


def test_axe_finds_nothing_in_a_report_and_a_phone_does_not_scroll_it_sideways(
    browser: Browser, axe: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    made = [*logs.every(0.1, 0, 20), *logs.every(2, 0, 100, "2001:db8::1")]
    log.write_text("\n".join(map(logs.realtime, made)))
    written = tmp_path / "report.html"
    result = CliRunner().invoke(main, ["report", str(log), "-o", str(written)])
    assert result.exit_code == 0, result.output
    seen = {}
    for look, context in LOOKS.items():
        page = browser.new_context(**context, bypass_csp=True).new_page()
        page.goto(written.as_uri())
        page.evaluate(axe)
        seen[look] = violations(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), look
        page.context.close()
    assert {look: each for look, each in seen.items() if each} == {}


def test_what_axe_finds_is_reported(open_page: OpenPage, axe: str) -> None:
    page = open_page("blocks")
    page.evaluate(axe)
    page.evaluate("() => document.querySelector('main').append(document.createElement('button'))")
    assert violations(page) == ["button-name: <button></button>"]
