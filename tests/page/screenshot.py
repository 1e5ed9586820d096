"""``make screenshot``: takes the pictures in ``docs/images``: the page of the simulated site after 15 minutes, and a
report on its log."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from chalicelib.core.tokens import Role
from sluice.cli import main as main_command
from sluice.commands.dev import FIRST_ATTACK_S, SITE_RULES
from sluice.demo.actors import ALLOWED, log_line
from sluice.demo.edge import TICK_S, EdgeTraffic
from sluice.demo.endless import endless_hits
from sluice.local.served import ServedCloud
from tests.support.browser import chromium, executable, sign_in

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PAST_S = 782.0
"""Ends while an attack is on."""

LOGGED_S, LOGGED_FROM = 1800.0, 1_769_860_800
"""Length and start of the log of the report, the latter in epoch seconds."""

PICTURES: dict[str, dict[str, Any]] = {
    "page": {"color_scheme": "light", "viewport": {"width": 1280, "height": 1000}},
    "page-dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 1000}},
    "page-phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "is_mobile": True},
}


def take(path: str, url: str, token: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with chromium(path) as browser:
        for name, look in PICTURES.items():
            page = browser.new_context(**look, timezone_id="UTC", locale="en-GB", reduced_motion="reduce").new_page()
            page.goto(url)
            sign_in(page, token)
            page.locator("#chart .line").wait_for()
            page.locator("#newest .block-row").first.wait_for()
            page.wait_for_load_state("networkidle")
            page.screenshot(path=IMAGES / f"{name}.png")
            print(IMAGES / f"{name}.png")  # noqa: T201


def take_report(path: str, folder: Path) -> None:
    """Takes the picture of the report on half an hour of the site's log."""
    log, page = folder / "requests.log", folder / "report.html"
    with log.open("wb") as lines:
        for number, hit in enumerate(
            takewhile(lambda each: each.at < LOGGED_S, endless_hits(1, start_in=FIRST_ATTACK_S))
        ):
            if hit.request is not None:
                lines.write(log_line(hit.request, LOGGED_FROM + hit.at, hit.request.status, number))
    main_command(["report", str(log), "--rules", str(SITE_RULES), "-o", str(page)], standalone_mode=False)
    with chromium(path) as browser:
        shown = browser.new_context(viewport={"width": 1100, "height": 1400}, color_scheme="light").new_page()
        shown.goto(page.as_uri())
        shown.screenshot(path=IMAGES / "report.png")
        print(IMAGES / "report.png")  # noqa: T201


def main() -> None:
    path = executable()
    if path is None:
        sys.exit("Chromium is not installed")
    with TemporaryDirectory() as folder:
        take_report(path, Path(folder))
    opened = ServedCloud(rules=SITE_RULES.read_text(encoding="utf-8"), start=time.time() - PAST_S, allow=ALLOWED)
    traffic = EdgeTraffic(opened.cloud, endless_hits(1, start_in=FIRST_ATTACK_S), seed=1)
    opened.cloud.loop.every(TICK_S, traffic.tick, first=opened.cloud.now())
    opened.run(time.time())
    token = opened.token("alice", Role.OPERATOR)
    with opened.serving(), ThreadPoolExecutor(1) as elsewhere:
        taken = elsewhere.submit(take, path, opened.url, token)
        while not taken.done():
            opened.run(time.time() + 0.1)
        taken.result()


if __name__ == "__main__":
    main()
