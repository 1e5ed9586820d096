"""The admin API and the page with 100,000 blocks, compared with ``/healthz`` on the same server."""

import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from ipaddress import IPv4Network
from statistics import median
from urllib.parse import urlsplit

from bench.measure import Figure
from tests.support.browser import chromium, executable, sign_in
from tests.support.site import Site, open_site

BLOCKS = 100_000
ROUNDS = 30
PATHS = ("/v1/blocks", "/v1/status", "/v1/clients?address=10.0.39.15")
SHOWN = "#view-blocks:visible"


def figures() -> Iterator[Figure]:
    with open_site() as site:
        site.put_blocks(*(str(IPv4Network(0x0A000000 + 2 * number)) for number in range(BLOCKS)))
        least = _answer_ms(site, "/healthz")
        for path in PATHS:
            value = _answer_ms(site, path)
            yield Figure(
                f"API latency with {BLOCKS:,} blocks: {path.partition('?')[0]}",
                value,
                "ms",
                None,
                f"median of {ROUNDS} on a kept connection; /healthz takes {least:.2g} ms",
            )
        yield from _page(site)


def _answer_ms(site: Site, path: str) -> float:
    address = urlsplit(site.url)
    connection = HTTPConnection(address.hostname or "", address.port)
    headers = {"Authorization": f"Bearer {site.operator}"}

    def ask() -> None:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, path

    ask()
    taken = median(_seconds(ask) for _ in range(ROUNDS)) * 1000
    connection.close()
    return taken


def _page(site: Site) -> Iterator[Figure]:
    program = executable()
    if program is None:
        return
    with chromium(program) as browser:

        def empty() -> None:
            page = browser.new_page()
            page.goto(f"{site.url}healthz")
            page.close()

        def whole() -> None:
            page = browser.new_context().new_page()
            page.goto(f"{site.url}#blocks")
            sign_in(page, site.operator)
            page.wait_for_selector(SHOWN)
            page.locator("#view-blocks").get_by_text("10.").first.wait_for()
            page.context.close()

        empty()
        floor = min(_seconds(empty) for _ in range(5))
        value = min(_seconds(whole) for _ in range(5))
    how = f"headless Chromium, signing in included; a tab that opens /healthz takes {floor * 1000:.0f} ms"
    yield Figure(f"page load: the list of {BLOCKS:,} blocks is there", value * 1000, "ms", None, how)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
