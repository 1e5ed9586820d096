"""A local cloud whose admin API is called as API Gateway calls it."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from threading import RLock
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from jsonschema_rs import Draft202012Validator

import app
from chalicelib.api.openapi import document
from chalicelib.bootstrap import Services, compose, running_in
from chalicelib.core.responses import Response
from chalicelib.core.state.blocks import Block
from chalicelib.core.state.operators import Audit
from chalicelib.core.tokens import Role, Token, issue
from chalicelib.pipeline.stored import State
from chalicelib.ports import StateStore, Write
from sluice.local.cloud import LocalCloud
from sluice.local.gateway import Gateway
from sluice.local.loop import SimulatedClock
from tests.support.objects import MemoryObjects
from tests.support.site import RULES

NOW = 1_790_000_000


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def fields(self) -> list[str]:
        """Returns the fields that a problem document names."""
        return [error["field"] for error in self.json.get("errors", [])]


DOCUMENT = document("token")


@cache
def documented(method: str, path: str, status: int, media_type: str) -> Draft202012Validator:
    """Returns the schema of an answer. Raises KeyError if the document lists no such answer."""
    response = DOCUMENT["paths"][path][method.lower()]["responses"][str(status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response["content"][media_type]["schema"]
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


class Racing:
    """A state store in which ``rival`` acts just before the next write."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.rival: Callable[[], object] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, writes: Sequence[Write]) -> None:
        rival, self.rival = self.rival, None
        if rival is not None:
            rival()
        self._store.write(writes)


class Desk:
    """An operator's desk: the local cloud, tokens, and calls of the admin API."""

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        state: StateStore | None = None,
        responses: Collection[Response] = (),
    ) -> None:
        """Starts the cloud. ``state``: a store for the API alone, in place of the local cloud's.

        ``responses``: those with IP sets, besides block.
        """
        self.clock = SimulatedClock(NOW)
        self.bucket = MemoryObjects()
        self.cloud = LocalCloud(
            self.clock,
            rules=RULES,
            shards=2,
            containers=1,
            settings=settings,
            responses=responses,
            objects=self.bucket,
        )
        self.cloud.start()
        self.state = Racing(state or self.cloud.state)
        self.tokens: list[Token] = []
        self.secrets: dict[str, str] = {}
        self.token("alice", Role.OPERATOR)
        self.token("bob", Role.OPERATOR)
        self.token("wallboard", Role.VIEWER)
        world = replace(self.cloud.world, state=self.state, tokens=lambda: tuple(self.tokens))
        self.services: Services = compose(self.cloud.config, world)
        self.gateway = Gateway(app.app, lambda: running_in(self.services), RLock())
        self._number = 0

    def token(self, name: str, role: Role, *, lives_s: int | None = None) -> str:
        secret = Random(name).randbytes(32)
        expires_at = None if lives_s is None else self.now + lives_s
        text, kept = issue(name, role, secret=secret, now=self.now, expires_at=expires_at)
        self.tokens.append(kept)
        self.secrets[name] = text
        return text

    @property
    def now(self) -> int:
        return int(self.clock.now())

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: str | None = "alice",
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
        origin: str = "198.51.100.4",
        **query: Any,
    ) -> Reply:
        """Returns the API's answer, after checking that the OpenAPI document allows it."""
        self.clock.wait_until(self.clock.now() + 0.002)
        sent = {"authorization": f"Bearer {self.secrets[by]}"} if by else {}
        if body is not None or raw is not None:
            sent["content-type"] = "application/json"
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        target = path + ("?" + urlencode(query, doseq=True, quote_via=quote) if query else "")
        answer = self.gateway.answer(method, target, sent, content, origin)
        reply = Reply(answer.status, answer.headers, answer.body.decode())
        route = path.partition("?")[0]
        if method.lower() in DOCUMENT["paths"].get(route, {}) and answer.status != 500:
            media_type = answer.headers["Content-Type"].partition(";")[0]
            schema = documented(method, route, answer.status, media_type)
            schema.validate(reply.json if media_type.endswith("json") else reply.text)
        return reply

    def undo(self, call: Mapping[str, Any]) -> Reply:
        """Makes the call with which an answer or the audit undoes a change."""
        return self.call(call["method"], call["path"], call["body"], headers=call["headers"], **call["query"])

    def run(self, seconds: float) -> None:
        self.cloud.loop.run(self.clock.now() + seconds)

    def requests(
        self,
        address: str,
        number: int,
        *,
        method: str = "GET",
        path: str = "/",
        ago: float = 0.5,
        span: float = 1.0,
        status: int = 200,
    ) -> None:
        """Logs ``number`` requests of ``address``, evenly over the ``span`` seconds that ended ``ago`` seconds ago."""
        end = self.clock.now() - ago
        for index in range(number):
            self._number += 1
            time = end - span + span * index / number
            answered = f"{time:.3f}\t{address}\t{status}\t{method}\twww.example.com\t{path}"
            self.cloud.put(f"{answered}\tid-{self._number:09d}==\tagent\t-\n".encode())

    def attack(self, address: str) -> None:
        """Puts a client over the limit of the burst rule, and waits until it is blocked."""
        self.requests(address, 40)
        self.run(5)

    def published(self) -> set[str]:
        """Returns the contents of all WAF IP sets."""
        latest = {name: addresses for _, name, addresses in self.cloud.waf.updates}
        return set().union(*latest.values())

    def put_block(self, network: str, **fields: Any) -> Block:
        defaults: dict[str, Any] = {"blocked_at": self.now, "until": self.now + 600, "rule": "burst"}
        block = Block(network=network, **(defaults | fields))
        State(self.cloud.state).overwrite(block)
        return block

    def audit(self) -> list[Audit]:
        """Returns the audit, newest first."""
        return [stored.record for stored in State(self.cloud.state).all(Audit, descending=True)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def new_desk() -> type[Desk]:
    return Desk


@pytest.fixture(scope="session")
def openapi() -> Any:
    return DOCUMENT
