"""An HTTP server on 127.0.0.1 that handles requests as API Gateway does and calls the Chalice app.

Chalice's own local server delays requests on kept connections by 40 ms and does not decode ``%2F`` in paths. This one
runs the app's authorizer, rejects what API Gateway rejects, with the same messages, and calls the app with one request
at a time, as Lambda calls a container.
"""

import json
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote

from chalice.app import Chalice, ChaliceAuthorizer, RouteEntry
from chalice.local import LambdaEventConverter, RouteMatcher

HOST = "127.0.0.1"
LARGEST_PAYLOAD = 10 << 20
"""Bytes of the largest body that API Gateway accepts."""

STAGE_ARN = "arn:aws:execute-api:us-east-1:000000000000:local/api"
MISSING = "Missing Authentication Token"
"""API Gateway's message, with status 403, for a path or method that does not exist."""

IDLE_S = 60
"""Seconds after which an idle connection is closed."""


class HttpAnswer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


RequestHandler = Callable[[str, str, Mapping[str, str], bytes, str], HttpAnswer]
"""A function that answers a request, as ``Gateway.answer`` does."""


class Gateway:
    """API Gateway in front of one app."""

    def __init__(
        self,
        app: Chalice,
        container: Callable[[], AbstractContextManager[None]],
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        """``container`` returns the context the app is called in, such as ``running_in(services)``.

        ``lock`` is held during each request; pass one to share the container with other callers.
        """
        self._app = app
        self._container = container
        self._lock = lock or threading.Lock()
        self._events = LambdaEventConverter(RouteMatcher(list(app.routes)))

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes, source: str) -> HttpAnswer:
        """Returns the answer to a request.

        ``headers``: by lower-case name. ``target``: path and query, still encoded. ``source``: the caller's address.
        """
        try:
            event = self._events.create_lambda_event(method, target, dict(headers))
        except ValueError:
            return _message(403, MISSING)
        context, captured = event["requestContext"], event["pathParameters"]
        entries = self._app.routes[context["resourcePath"]]
        entry = entries.get(method)
        if entry is None:
            return _preflight(entries) if method == "OPTIONS" else _message(403, MISSING)
        event["path"] = unquote(context["path"])
        event["body"] = body.decode("utf-8", "replace") if body else None
        event["pathParameters"] = {name: unquote(text) for name, text in captured.items()}
        context |= {"requestId": str(uuid.uuid4()), "identity": {"sourceIp": source}}
        with self._lock, self._container():
            refused = self._authorize(entry, event)
            return refused or _http_answer(self._app(event, None))

    def _authorize(self, entry: RouteEntry, event: dict[str, Any]) -> HttpAnswer | None:
        """Returns the refusal, or None after adding the authorizer's context to the event."""
        authorizer: object = entry.authorizer
        if authorizer is None:
            return None
        if not isinstance(authorizer, ChaliceAuthorizer):
            return _message(403, MISSING)  # IAM would check a signature, and there is no IAM here.
        header = event["headers"].get("authorization")
        if not header:
            return _message(401, "Unauthorized")
        arn = f"{STAGE_ARN}/{event['requestContext']['httpMethod']}{event['path']}"
        request = {"type": "TOKEN", "authorizationToken": header, "methodArn": arn}
        try:
            identity = authorizer(request, {})
        except Exception as exc:  # noqa: BLE001 - the gateway answers whatever the function raises
            return _message(401, "Unauthorized") if str(exc) == "Unauthorized" else _message(500, None)
        event["requestContext"]["authorizer"] = {**identity["context"], "principalId": identity["principalId"]}
        return None


def serve(answer: RequestHandler, port: int = 0) -> ThreadingHTTPServer:
    """Returns a server that listens on 127.0.0.1 only; the caller runs ``serve_forever``. Port 0 picks a free port."""
    return _Server((HOST, port), type("Handler", (_Handler,), {"answer": staticmethod(answer)}))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores callers that have disconnected."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    answer: RequestHandler
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sluice", ""
    timeout = IDLE_S
    disable_nagle_algorithm = True
    wbufsize = -1
    """Default size of the write buffer, so that head and body leave in one packet."""

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # the gateway answers every method
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        body = self._body()
        if isinstance(body, HttpAnswer):
            self.close_connection = True
            answer = body
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = self.answer(self.command, self.path, headers, body, str(self.client_address[0]))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _body(self) -> bytes | HttpAnswer:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return _message(411, "Length Required")
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            length = -1
        if length < 0:
            return _message(400, "Bad Request")
        if length > LARGEST_PAYLOAD:
            return _message(413, "Request Too Long")
        return self.rfile.read(length)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: a line per request would drown the local cloud's own output."""


def _preflight(entries: Mapping[str, RouteEntry]) -> HttpAnswer:
    cors = next((entry.cors for entry in entries.values() if entry.cors), None)
    if cors is None:
        return _message(403, MISSING)
    allowed = {"Access-Control-Allow-Methods": ",".join((*sorted(entries), "OPTIONS"))}
    return HttpAnswer(200, {**cors.get_access_control_headers(), **allowed}, b"")


def _message(status: int, message: str | None) -> HttpAnswer:
    return HttpAnswer(status, {"Content-Type": "application/json"}, json.dumps({"message": message}).encode())


def _http_answer(response: Mapping[str, Any]) -> HttpAnswer:
    headers = {name: str(value) for name, value in response["headers"].items()}
    return HttpAnswer(response["statusCode"], headers, response["body"].encode())
