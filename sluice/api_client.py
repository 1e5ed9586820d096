"""The admin API over HTTP, as the operator's commands call it."""

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import urllib3

TIMEOUT = urllib3.Timeout(connect=5, read=30)

RETRIES = urllib3.Retry(
    connect=2,
    read=0,
    redirect=0,
    other=0,
    status=3,
    status_forcelist=(429,),
    allowed_methods=None,
    backoff_factor=0.5,
    raise_on_status=False,
)
"""Only what is known not to have been done is tried again. No redirect is followed: it would carry the token along."""

LOCAL = ("127.0.0.1", "localhost", "::1")
_GATEWAY = re.compile(r"[a-z0-9-]+\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
Parameters = Mapping[str, str | int | Sequence[str]]


class Problem(Exception):
    """A refused call: the problem document (RFC 9457), or what stands for one."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(document["detail"])
        self.document = document

    @property
    def status(self) -> int:
        return int(self.document["status"])

    @property
    def needs_force(self) -> bool:
        return str(self.document["type"]).endswith(":force-needed")


class Unreachable(Exception):
    """No answer, or none that the admin API gives."""


class Credential(Protocol):
    """What says who is calling."""

    def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Mapping[str, str]:
        """``headers``, and what the credential adds to them."""


class Bearer:
    """A token of the admin API."""

    def __init__(self, token: str) -> None:
        """Raises ValueError if it cannot be one."""
        if not token.isascii() or not token.isprintable():
            raise ValueError("the token holds characters that no token has")
        self._token = token

    def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Mapping[str, str]:  # noqa: ARG002
        return {**headers, "Authorization": f"Bearer {self._token}"}


class Signature:
    """AWS credentials, as boto3 finds them: for an admin API whose callers IAM authorizes."""

    def __init__(self) -> None:
        """Raises ValueError if there are none."""
        from botocore.session import get_session  # noqa: PLC0415 - slow to import, and seldom needed

        session = get_session()
        credentials = session.get_credentials()
        if credentials is None:
            raise ValueError("there are no AWS credentials to sign with")
        self._credentials = credentials
        self._region = session.get_config_variable("region") or "us-east-1"

    def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Mapping[str, str]:
        from botocore.auth import SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415

        named = _GATEWAY.fullmatch(urlsplit(url).hostname or "")
        request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
        region = named[1] if named else self._region
        SigV4Auth(self._credentials, "execute-api", region).add_auth(request)
        return dict(request.headers.items())


class ApiClient:
    def __init__(self, url: str, credential: Credential) -> None:
        """Raises ValueError if the credential would travel in the open."""
        parts = urlsplit(url)
        local = parts.hostname in LOCAL
        if not parts.hostname or parts.scheme not in ("http", "https") or (parts.scheme == "http" and not local):
            raise ValueError(
                f"{url!r} is not the address of an admin API; expected https://..., or http://127.0.0.1:..."
            )
        self.url = url.rstrip("/")
        self._credential = credential
        self._pool = urllib3.PoolManager(timeout=TIMEOUT, retries=RETRIES)

    def get(self, path: str, **query: str | int | Sequence[str] | None) -> Any:
        return self.call("GET", path, query={name: value for name, value in query.items() if value is not None})

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Parameters | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's JSON. A POST carries an idempotency key. Raises Problem, Unreachable."""
        sent = {"Accept": "application/json", "User-Agent": "sluice", **(headers or {})}
        if method == "POST":
            sent.setdefault("Idempotency-Key", str(uuid.uuid4()))
        if body is not None:
            sent["Content-Type"] = "application/json"
        address = self.url + path + ("?" + urlencode(query, doseq=True, quote_via=quote) if query else "")
        content = None if body is None else json.dumps(body).encode()
        try:
            signed = self._credential.headers(method, address, sent, content)
            response = self._pool.request(method, address, body=content, headers=signed)
        except urllib3.exceptions.HTTPError as exc:
            reason = getattr(exc, "reason", None) or exc
            raise Unreachable(f"{self.url} does not answer: {reason}") from exc
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = None
        if response.status < 300 and answer is not None:
            return answer
        if isinstance(answer, dict):
            raise Problem(_document(response.status, answer))
        raise Unreachable(f"{self.url} answers {response.status} and no JSON: is it the admin API?")

    def pages(self, path: str, key: str, *, most: int, page: int, **query: str | None) -> dict[str, Any]:
        """Up to ``most`` entries under ``key``, from as many pages of ``page`` as it takes, in the form of one page."""
        entries: list[Any] = []
        for answer in self._each_page(path, min(most, page), query):
            entries += answer[key]
            if len(entries) >= most:
                break
        return {**answer, key: entries[:most]}

    def _each_page(self, path: str, limit: int, query: Mapping[str, str | None]) -> Iterator[dict[str, Any]]:
        cursor = None
        while True:
            answer = self.get(path, limit=limit, cursor=cursor, **query)
            yield answer
            cursor = answer["next"]
            if cursor is None:
                return


def _document(status: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    if "detail" in answer and "type" in answer:
        return dict(answer)
    said = str(answer.get("message") or answer.get("Message") or "nothing more")
    meaning = {
        401: "The token is unknown, revoked or has expired. Set SLUICE_TOKEN.",
        403: f"The gateway refused the call ({said}). Is the address, with its stage, the admin API's?",
        429: "Too many calls at once. Try again in a moment.",
    }.get(status, f"The gateway says: {said}")
    return {"type": "about:blank", "title": "Refused by the gateway", "status": status, "detail": meaning}
