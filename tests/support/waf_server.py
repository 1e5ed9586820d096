"""The stand-in of WAF behind HTTP, in the JSON protocol of ``wafv2``, so that AWS's own client talks to it."""

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
    """The endpoint of ``waf``, on this machine only. Calls are answered one at a time."""
    alone = Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            service, _, call = self.headers["X-Amz-Target"].rpartition(".")
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if f"{service}." != TARGET or call not in CALLS:
                self._answer(400, {"__type": "UnknownOperationException", "message": call})
                return
            try:
                with alone:
                    answer = getattr(waf, _python_name(call))(**asked)
            except ClientError as exc:
                error: Any = exc.response["Error"]
                self._answer(400, {"__type": error["Code"], "Message": error["Message"]})
                return
            self._answer(200, answer)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is logged."""

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
    """boto3's name of a method.

    >>> _python_name("GetIPSet")
    'get_ip_set'
    >>> _python_name("ListIPSets")
    'list_ip_sets'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", call.replace("IPSet", "IpSet")).lower()
