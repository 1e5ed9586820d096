"""An HTTP server on 127.0.0.1 that does to a request what API Gateway does, and calls the deployed Chalice app.

Chalice's own local server waits 40 ms in every kept connection and leaves ``%2F`` in paths undecoded. This one runs
the built-in authorizer, refuses what API Gateway refuses, in its words, and calls the app one request at a time, as
Lambda calls a container.
"""

import json
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from chalice.app import Chalice, ChaliceAuthorizer, RouteEntry

HOST = "127.0.0.1"
LARGEST_PAYLOAD = 10 << 20
"""API Gateway's bound."""

STAGE_ARN = "arn:aws:execute-api:us-east-1:000000000000:local/api"
MISSING = "Missing Authentication Token"
"""What API Gateway says, with 403, of a path or method that is not there."""

IDLE_S = 60


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Gateway:
    """API Gateway in front of one app."""

    def __init__(
        self,
        app: Chalice,
        container: Callable[[], AbstractContextManager[None]],
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        """``container``: what the app is called inside, such as ``lambda: running_in(services)``.

        ``lock`` keeps requests apart from whatever else runs in that container.
        """
        self._app = app
        self._container = container
        self._lock = lock or threading.Lock()
        self._routes = {tuple(path.split("/")): (path, methods) for path, methods in app.routes.items()}

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes, source: str) -> Answer:
        """``headers`` by lower-case name; ``target``: path and query as they came; ``source``: the caller's address."""
        url = urlsplit(target)
        found = self._find(url.path)
        if found is None:
            return _says(403, MISSING)
        path, entries, captured = found
        entry = entries.get(method)
        if entry is None:
            return self._preflight(entries) if method == "OPTIONS" else _says(403, MISSING)
        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(url.query, keep_blank_values=True, encoding="utf-8", errors="replace"):
            query.setdefault(name, []).append(value)
        event: dict[str, Any] = {
            "resource": path,
            "path": unquote(url.path),
            "httpMethod": method,
            "headers": dict(headers),
            "multiValueHeaders": {name: [value] for name, value in headers.items()},
            "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
            "multiValueQueryStringParameters": query or None,
            "pathParameters": captured or None,
            "stageVariables": None,
            "requestContext": {
                "httpMethod": method,
                "resourcePath": path,
                "path": url.path,
                "stage": "api",
                "requestId": str(uuid.uuid4()),
                "identity": {"sourceIp": source, "userAgent": headers.get("user-agent")},
            },
            "body": body.decode("utf-8", "replace") if body else None,
            "isBase64Encoded": False,
        }
        with self._lock, self._container():
            refused = self._authorize(entry, event)
            return refused or _answer(self._app(event, None))

    def _find(self, path: str) -> tuple[str, Mapping[str, RouteEntry], dict[str, str]] | None:
        """The route, its methods, and the path's parameters. A slash at the end means nothing to API Gateway."""
        parts = tuple((path.rstrip("/") or "/").split("/"))
        exact = self._routes.get(parts)
        if exact is not None:
            return (*exact, {})
        for pattern, (route, entries) in self._routes.items():
            pairs = list(zip(pattern, parts, strict=False))
            if len(pattern) == len(parts) and all(want == have or _names(want) for want, have in pairs):
                return route, entries, {want[1:-1]: unquote(have) for want, have in pairs if _names(want)}
        return None

    def _authorize(self, entry: RouteEntry, event: dict[str, Any]) -> Answer | None:
        """None lets the call through, with what the authorizer said of the caller in its context."""
        authorizer: object = entry.authorizer
        if authorizer is None:
            return None
        if not isinstance(authorizer, ChaliceAuthorizer):
            return _says(403, MISSING)  # Signatures are IAM's to check, and there is no IAM here.
        header = event["headers"].get("authorization")
        if not header:
            return _says(401, "Unauthorized")
        arn = f"{STAGE_ARN}/{event['httpMethod']}{event['path']}"
        asked = {"type": "TOKEN", "authorizationToken": header, "methodArn": arn}
        try:
            said = authorizer(asked, {})
        except Exception as exc:  # noqa: BLE001 - whatever the function raises, the gateway answers
            return _says(401, "Unauthorized") if str(exc) == "Unauthorized" else _says(500, None)
        event["requestContext"]["authorizer"] = {**said["context"], "principalId": said["principalId"]}
        return None

    def _preflight(self, entries: Mapping[str, RouteEntry]) -> Answer:
        cors = next((entry.cors for entry in entries.values() if entry.cors), None)
        if cors is None:
            return _says(403, MISSING)
        allowed = {"Access-Control-Allow-Methods": ",".join((*sorted(entries), "OPTIONS"))}
        return Answer(200, {**cors.get_access_control_headers(), **allowed}, b"")


def serve(gateway: Gateway, port: int = 0) -> ThreadingHTTPServer:
    """A server that listens on 127.0.0.1 only; the caller runs ``serve_forever``. Port 0 picks a free one."""

    class Handler(_Handler):
        pass

    Handler.gateway = gateway
    return _Server((HOST, port), Handler)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that has gone away is nobody's error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    gateway: Gateway
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sluice", ""
    timeout = IDLE_S
    disable_nagle_algorithm = True
    wbufsize = -1
    """Buffered: head and body leave in one packet."""

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # every method is the gateway's to judge
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        body = self._body()
        if isinstance(body, Answer):
            self.close_connection = True
            answer = body
        else:
            headers: dict[str, str] = {}
            for name, value in self.headers.items():
                headers[name.lower()] = value
            source = str(self.client_address[0])
            answer = self.gateway.answer(self.command, self.path, headers, body, source)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _body(self) -> bytes | Answer:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return _says(411, "Length Required")
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            length = -1
        if length < 0:
            return _says(400, "Bad Request")
        if length > LARGEST_PAYLOAD:
            return _says(413, "Request Too Long")
        return self.rfile.read(length)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: a line a request would drown what the local cloud says."""


def _names(part: str) -> bool:
    return part.startswith("{") and part.endswith("}")


def _says(status: int, message: str | None) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps({"message": message}).encode())


def _answer(response: Mapping[str, Any]) -> Answer:
    headers = {name: str(value) for name, value in response["headers"].items()}
    return Answer(response["statusCode"], headers, response["body"].encode())
