"""A local cloud in a separate thread, with its API and page on a port: for tests of the page and the commands."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from msgspec.structs import replace

from chalicelib.admin.rule_sets import RuleSetView, RulesPlan
from chalicelib.core.durations import HOUR_S
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.breakers import RuleBreaker
from chalicelib.core.state.feeds import Feed
from chalicelib.core.state.operators import Placed, WebAcls
from chalicelib.core.state.records import Control, StateRecord
from chalicelib.core.state.rule_sets import ACTIVE, StoredRules
from chalicelib.core.state.trends import Traffic, Trend
from chalicelib.core.tokens import Role
from chalicelib.pipeline.stored import State
from chalicelib.pipeline.sweep import Sweep
from chalicelib.ports import Item
from sluice.api_client import ApiClient, bearer
from sluice.local.served import ServedCloud
from tests.support.objects import MemoryObjects

RULES = """
[[rule]]
name = "burst"
limit = 20
window = "5s"
block_for = "10m"
escalate = { factor = 2, max = "1h", memory = "1d" }

[[rule]]
name = "login"
limit = 5
window = "10s"
action = "count"
scope = { path_prefix = ["/login"], method = ["POST"] }
"""

SITE_RULES = f"""{RULES}
[[rule]]
name = "crawl"
limit = 30
window = "10s"
block_for = "10m"
respond = ["challenge", "block"]
escalate = {{ factor = 1, max = "1h", memory = "1d" }}
scope = {{ path_prefix = ["/catalogue"] }}
"""
"""The rules of a ``Site``: one more, with two responses."""

PATIENCE_S = 30.0
STEP_S = 0.05


class Site:
    """The running cloud, as a test changes and observes it."""

    def __init__(self, opened: ServedCloud, bucket: MemoryObjects) -> None:
        self._opened = opened
        self._bucket = bucket
        self.url = opened.url
        self.operator = opened.token("alice", Role.OPERATOR)
        self.viewer = opened.token("wallboard", Role.VIEWER)
        self._number = 0

    def do(self, work: Callable[[], Any]) -> Any:
        return self._opened.clock.hand_over(work)

    def attack(
        self, address: str, number: int = 40, path: str = "/", method: str = "GET", *, status: int = 200
    ) -> None:
        """Logs ``number`` requests within the last second."""
        now = time.time()
        lines = []
        for index in range(number):
            self._number += 1
            at = now - 1 + index / number
            lines.append(
                f"{at:.3f}\t{address}\t{status}\t{method}\twww.example.com\t{path}\tid-{self._number:09d}==\tagent\t-\n".encode()
            )

        def put() -> None:
            for line in lines:
                self._opened.cloud.put(line)

        self.do(put)

    def attack_seen_by_plan(self, address: str, number: int = 40, path: str = "/", method: str = "GET") -> None:
        """Logs ``number`` requests and waits until a plan of the active rules knows of a client over a limit."""
        self.attack(address, number, path, method)
        api = ApiClient(self.url, bearer(self.viewer))
        rules = api.get("/v1/rules", RuleSetView).value

        def seen() -> bool:
            plan = api.call("POST", "/v1/rules/plan", RulesPlan, body={"text": rules.text}).value
            return any(rule.over for rule in plan.now)

        self.eventually(seen)

    def put_late(self, number: int) -> None:
        """Logs requests that were made two hours ago."""
        at = time.time() - 7200
        self.put_malformed(
            *[
                f"{at:.3f}\t192.0.2.1\t200\tGET\twww.example.com\t/\tlate-{index:09d}==\tagent\t-\n".encode()
                for index in range(number)
            ]
        )

    def put_malformed(self, *records: bytes) -> None:
        """Logs records as they are."""

        def put() -> None:
            for record in records:
                self._opened.cloud.put(record)

        self.do(put)

    def put_object(self, key: str, content: bytes) -> None:
        """Stores an object in the bucket ``logs`` and notifies its queue."""
        self.do(lambda: self._opened.cloud.notify(self._bucket.put("logs", key, content)))

    def put_control(self, control: Control) -> None:
        self.do(lambda: State(self._opened.cloud.state).overwrite(control))

    def put_trend(self, *traffic: Traffic) -> None:
        """Stores quarter hours as if they had been added up."""
        hours: dict[int, list[Traffic]] = {}
        for each in sorted(traffic, key=lambda each: each.at):
            hours.setdefault(each.at // HOUR_S * HOUR_S, []).append(each)
        trends = [Trend(hour=hour, quarters=tuple(quarters)) for hour, quarters in hours.items()]
        self.do(lambda: State(self._opened.cloud.state).overwrite(*trends))

    def put_places(self, *web_acls: Placed, age_s: int = 0) -> None:
        """Stores where Sluice's rules stand in web ACLs, as an operator's command found it."""
        record = WebAcls(at=int(time.time()) - age_s, web_acls=web_acls)
        self.do(lambda: State(self._opened.cloud.state).overwrite(record))

    def put_blocks(self, *networks: str, **fields: Any) -> None:
        """Stores blocks as if they had existed for a while."""
        now = int(time.time())
        shared: dict[str, Any] = {"blocked_at": now, "until": now + 600, "rule": "burst"} | fields
        blocks = [Block(network=network, **shared) for network in networks]
        state = self._opened.cloud.state

        def put() -> None:
            State(state).overwrite(*blocks)
            state.changes.clear()  # older blocks are not in the stream

        self.do(put)

    def stop_rule(self, rule: str) -> None:
        """Stores that a rule has just been stopped: it would have blocked 812 of 2,000 known clients."""
        now = int(time.time())
        breaker = RuleBreaker(
            rule=rule,
            limit=20,
            window_s=5,
            stopped_at=now,
            would_hit=812,
            known=2000,
            clients=("203.0.113.9/32", "198.51.100.7/32"),
            hits={f"{number:08x}": now for number in range(50)},
        )
        self.put(breaker)

    def put(self, record: StateRecord) -> None:
        self.do(lambda: State(self._opened.cloud.state).overwrite(record))

    def put_feed(self, feed: Feed) -> None:
        """Adds a feed to the rules, and stores that it has been checked."""
        state = State(self._opened.cloud.state)

        def put() -> None:
            active = state.get(StoredRules, ACTIVE)
            assert active is not None
            table = f'\n[feeds.{feed.name}]\nurl = "{feed.url}"\nallow = true\n'
            state.overwrite(replace(active.record, text=active.record.text + table), id=ACTIVE)
            state.overwrite(feed)

        self.do(put)

    def put_unreadable(self, kind: str, id: str, body: bytes) -> None:
        """Stores a record as it is, and has the sweep find it."""
        state = self._opened.cloud.state

        def put() -> None:
            state.put_over([Item(kind=kind, id=id, body=body)])
            Sweep(state=State(state), clock=time.time).run()

        self.do(put)

    def published(self) -> set[str]:
        """Returns the contents of all WAF IP sets."""
        return set().union(*self.do(lambda: list(self._opened.cloud.waf.published().values())))

    def published_in(self, name: str) -> set[str]:
        """Returns the contents of one WAF IP set."""
        return set(self.do(lambda: list(self._opened.cloud.waf.published()[name])))

    def revoke_all(self) -> None:
        self.do(self._opened.tokens.clear)

    @staticmethod
    def eventually(holds: Callable[[], bool]) -> None:
        """Waits until ``holds`` returns true; fails after ``PATIENCE_S`` seconds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"not true after {PATIENCE_S} s"
            Event().wait(STEP_S)


@contextmanager
def open_site() -> Iterator[Site]:
    bucket = MemoryObjects()
    ready: Future[ServedCloud] = Future()
    over = Event()

    def run() -> None:
        try:
            opened = ServedCloud(rules=SITE_RULES, allow=[("198.51.100.0/24", "office")], objects=bucket)
        except BaseException as exc:
            ready.set_exception(exc)
            raise
        with opened.serving():
            ready.set_result(opened)
            while not over.is_set():
                opened.run(time.time() + STEP_S)

    thread = Thread(target=run)
    thread.start()
    try:
        yield Site(ready.result(), bucket)
    finally:
        over.set()
        thread.join()
