"""The stand-in for WAF behind HTTP, in the JSON protocol of ``wafv2``, for use with AWS's own client."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from botocore.exceptions import ClientError

from sluice.local.waf import WafStandIn

TARGET = "AWSWAF_20190729."
CALLS = ("CreateIPSet", "GetIPSet", "UpdateIPSet", "ListIPSets", "DeleteIPSet")


@contextmanager
def serving(waf: WafStandIn) -> Iterator[str]:
    """Serves ``waf`` on this machine and yields its endpoint. Calls are answered one at a time."""
    lock = Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            service, _, call = self.headers["X-Amz-Target"].rpartition(".")
            parameters = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if f"{service}." != TARGET or call not in CALLS:
                self._answer(400, {"__type": "UnknownOperationException", "message": call})
                return
            try:
                with lock:
                    answer = getattr(waf, _python_name(call))(**parameters)
            except ClientError as exc:
                error: Any = exc.response["Error"]
                self._answer(400, {"__type": error["Code"], "Message": error["Message"]})
                return
            self._answer(200, answer)

        def log_message(self, format: str, *args: object) -> None:
            """Discards the message."""

        def _answer(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _python_name(call: str) -> str:
    """Returns the name of a method in boto3.

    >>> _python_name("GetIPSet")
    'get_ip_set'
    >>> _python_name("ListIPSets")
    'list_ip_sets'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", call.replace("IPSet", "IpSet")).lower()
