"""The local gateway answers as API Gateway does, over real sockets."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.client import HTTPConnection
from typing import Any

import pytest
from chalice.app import AuthRequest, AuthResponse, Chalice, CORSConfig, Request, Response
from chalice.test import Client

import app as deployed
from chalicelib.bootstrap import running_in
from sluice.local.gateway import Gateway, serve
from tests.support.admin_api import Desk

Answer = tuple[int, dict[str, str], bytes]


class Sample(Chalice):
    """An app that records how many of its requests were handled at the same time."""

    busy = 0
    busiest = 0


def sample() -> Sample:
    app = Sample(app_name="sample")

    def current_request() -> Request:
        assert app.current_request is not None
        return app.current_request

    @app.authorizer()
    def guard(request: AuthRequest) -> AuthResponse:
        if request.token == "broken":
            raise RuntimeError("out of order")
        if request.token != "good":
            raise Exception("Unauthorized")
        return AuthResponse(routes=["*"], principal_id="p", context={"who": "you"})

    @app.route("/echo/{name}/x", cors=CORSConfig("https://ops.example.com", allow_headers=["If-Match"]))
    def echo(name: str) -> dict[str, Any]:
        event = current_request().to_original_event()
        return {
            "name": name,
            "query": event["multiValueQueryStringParameters"],
            "source": event["requestContext"]["identity"]["sourceIp"],
            "path": event["path"],
        }

    @app.route("/guarded", authorizer=guard)
    def guarded() -> Any:
        return current_request().context["authorizer"]

    @app.route("/body", methods=["POST"])
    def body() -> Response:
        app.busy += 1
        app.busiest = max(app.busiest, app.busy)
        received: Any = current_request().raw_body
        answer = Response(received.decode(), headers={"Content-Type": "text/plain", "X-A": "b"})
        app.busy -= 1
        return answer

    return app


@pytest.fixture
def app() -> Sample:
    return sample()


@pytest.fixture
def port(app: Sample) -> Iterator[int]:
    server = serve(Gateway(app, nullcontext).answer)
    assert server.server_address[0] == "127.0.0.1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def connection(port: int) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    yield connection
    connection.close()


def ask(connection: HTTPConnection, method: str, target: str, body: Any = None, **headers: str) -> Answer:
    connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), answer.read()


def test_a_path_is_decoded_as_api_gateway_decodes_it(connection: HTTPConnection) -> None:
    status, _, body = ask(connection, "GET", "/echo/10.0.0.0%2F24/x?a=1&a=%32&b=&c=%C3%BC+%2B")
    assert status == 200
    assert json.loads(body) == {
        "name": "10.0.0.0/24",
        "query": {"a": ["1", "2"], "b": [""], "c": ["\u00fc +"]},
        "source": "127.0.0.1",
        "path": "/echo/10.0.0.0/24/x",
    }


def test_a_connection_is_kept_open(connection: HTTPConnection) -> None:
    ask(connection, "GET", "/echo/a/x")
    kept = connection.sock
    assert kept is not None
    ask(connection, "POST", "/body", "x", Content_Type="application/json")
    assert connection.sock is kept


def test_head_and_body_of_an_answer_leave_in_one_packet(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"GET /echo/a/x HTTP/1.1\r\nHost: x\r\n\r\n")
        first = raw.recv(65536)
    assert first.endswith(b"}")


@pytest.mark.parametrize("target", ["/nowhere", "/echo/a", "/echo//x/y", "/body/more", "//", "/%2e%2e/body"])
def test_an_unknown_path_is_answered_as_api_gateway_does(connection: HTTPConnection, target: str) -> None:
    status, _, body = ask(connection, "GET", target)
    assert (status, json.loads(body)) == (403, {"message": "Missing Authentication Token"})


@pytest.mark.parametrize("method", ["DELETE", "TRACE", "PROPFIND", "QUERY"])
def test_an_unknown_method_is_answered_as_api_gateway_does(connection: HTTPConnection, method: str) -> None:
    assert ask(connection, method, "/body")[0] == 403


def test_the_answer_to_head_has_no_body_and_keeps_the_connection_usable(connection: HTTPConnection) -> None:
    assert ask(connection, "HEAD", "/body")[::2] == (403, b"")
    assert ask(connection, "GET", "/echo/a/x")[0] == 200


def test_a_slash_at_the_end_is_ignored(connection: HTTPConnection) -> None:
    assert ask(connection, "GET", "/echo/a/x/")[0] == 200


def test_the_authorizer_decides_before_the_app_is_called(connection: HTTPConnection) -> None:
    assert ask(connection, "GET", "/guarded")[::2] == (401, b'{"message": "Unauthorized"}')
    assert ask(connection, "GET", "/guarded", Authorization="bad")[::2] == (401, b'{"message": "Unauthorized"}')
    assert ask(connection, "GET", "/guarded", Authorization="broken")[::2] == (500, b'{"message": null}')
    status, _, body = ask(connection, "GET", "/guarded", Authorization="good")
    assert (status, json.loads(body)) == (200, {"who": "you", "principalId": "p"})


def test_a_preflight_is_answered_where_cors_is_configured(connection: HTTPConnection) -> None:
    status, headers, _ = ask(connection, "OPTIONS", "/echo/a/x")
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == "https://ops.example.com"
    assert "If-Match" in headers["Access-Control-Allow-Headers"]
    assert "GET" in headers["Access-Control-Allow-Methods"]
    assert ask(connection, "OPTIONS", "/body")[0] == 403


def test_invalid_and_oversized_bodies_are_rejected(connection: HTTPConnection, port: int) -> None:
    assert ask(connection, "POST", "/body", "", Content_Length="99999999999")[0] == 413
    connection.close()
    assert ask(connection, "POST", "/body", iter([b"x"]), Transfer_Encoding="chunked")[0] == 411
    for length in (b"-1", b"x", b"1, 2"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n")
            assert raw.recv(65536).startswith(b"HTTP/1.1 400")


def test_requests_are_handled_one_at_a_time_as_in_a_container(app: Sample, port: int) -> None:
    def post() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        for _ in range(20):
            text = "x" * 1000
            status, headers, body = ask(connection, "POST", "/body", text, Content_Type="application/json")
            answers.append((status, headers["X-A"], body.decode() == text))
        connection.close()

    answers: list[tuple[int, str, bool]] = []
    threads = [threading.Thread(target=post) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(200, "b", True)] * 120
    assert app.busiest == 1


def test_the_admin_api_works_under_chalice_s_test_client_too(desk: Desk) -> None:
    headers = {"Authorization": f"Bearer {desk.secrets['alice']}", "Content-Type": "application/json"}
    with running_in(desk.services), Client(deployed.app) as client:
        wish = json.dumps({"network": "192.0.2.0/24"}).encode()
        assert client.http.put("/v1/allowlist", headers=headers, body=wish).json_body["changed"] is True
        listed = client.http.get("/v1/allowlist?limit=5", headers=headers).json_body["entries"]
        assert [entry["network"] for entry in listed] == ["192.0.2.0/24"]
        gone = client.http.delete("/v1/allowlist?network=192.0.2.0%2F24", headers=headers)
        assert gone.json_body["changed"] is True
        assert client.http.get("/v1/allowlist").status_code == 401
        assert client.http.get("/healthz").json_body == {"status": "ok"}
