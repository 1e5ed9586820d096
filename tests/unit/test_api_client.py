"""Credentials are sent to the admin API only, and answers are decoded leniently."""

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from chalicelib.admin.changes import ChangeAnswer
from chalicelib.admin.status import Status
from sluice.api_client import Answer, ApiClient, Unreachable, bearer, signature

URL = "https://abcd1234.execute-api.eu-west-1.amazonaws.com/api/v1/blocks?network=192.0.2.0%2F24"


class Redirecting(BaseHTTPRequestHandler):
    """Redirects every request to another path of the same server."""

    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(302)
        self.send_header("Location", "/other")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def redirecting() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_no_redirect_is_followed_with_a_token(redirecting: str) -> None:
    with pytest.raises(Unreachable):
        ApiClient(redirecting, bearer("sluice_x")).get("/v1/status", Status)
    assert Redirecting.requests == 1


def test_a_call_is_signed_for_the_region_in_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    sent = signature()("DELETE", URL, {"Accept": "application/json"}, None)
    assert re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/eu-west-1/execute-api/aws4_request, "
        r"SignedHeaders=accept;host;x-amz-date, Signature=[0-9a-f]{64}",
        sent["Authorization"],
    )
    assert "secret" not in str(sent)


def test_an_answer_of_a_newer_api_is_decoded_without_its_new_fields() -> None:
    document = {"changed": True, "detail": "done", "undo": None, "colour": "blue"}
    assert Answer(document, ChangeAnswer).value == ChangeAnswer(changed=True, detail="done")


def test_an_answer_may_have_numbers_for_keys_which_json_writes_as_text() -> None:
    assert Answer({"1790000000": 3}, dict[int, int]).value == {1_790_000_000: 3}


def test_an_answer_of_another_form_is_explained() -> None:
    with pytest.raises(Unreachable, match=r"missing required field `detail`.*--json prints the answer"):
        _ = Answer({"changed": True}, ChangeAnswer).value
