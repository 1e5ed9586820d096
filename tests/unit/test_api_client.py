"""Credentials go where they should, and nowhere else."""

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from chalicelib.admin.status import Status
from sluice.api_client import ApiClient, Bearer, Signature, Unreachable

URL = "https://abcd1234.execute-api.eu-west-1.amazonaws.com/api/v1/blocks?network=192.0.2.0%2F24"


class Elsewhere(BaseHTTPRequestHandler):
    """Sends every caller on to itself."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(302)
        self.send_header("Location", "/other")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_no_redirect_is_followed_with_a_token(elsewhere: str):
    with pytest.raises(Unreachable):
        ApiClient(elsewhere, Bearer("sluice_x")).get("/v1/status", Status)
    assert Elsewhere.asked == 1


def test_a_call_is_signed_for_the_region_in_its_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    sent = Signature().headers("DELETE", URL, {"Accept": "application/json"}, None)
    assert re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/eu-west-1/execute-api/aws4_request, "
        r"SignedHeaders=accept;host;x-amz-date, Signature=[0-9a-f]{64}",
        sent["Authorization"],
    )
    assert "secret" not in str(sent)
