"""The admin API over HTTP, as the operator's commands call it.

Answers are decoded into the structs that the API encodes. Fields this version does not know are ignored; a field added
to such a struct needs a default, so that the commands still read an older API.
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import urllib3

from chalicelib.admin.errors import Fault

T = TypeVar("T")

TIMEOUT = urllib3.Timeout(connect=5, read=30)

BRIEF = urllib3.Timeout(total=2)
"""Longest wait of a call without patience; most cold starts take less."""

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
"""Retries only what certainly had no effect. Redirects are not followed, because they would carry the token along."""

ALL = 1_000_000
"""More entries than any list of the API holds."""

PAGE = 1000
"""Most entries per call, unless a route accepts fewer."""

LOCAL = ("127.0.0.1", "localhost", "::1")
_GATEWAY = re.compile(r"[a-z0-9-]+\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
Parameters = Mapping[str, str | int | Sequence[str]]


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a problem document (RFC 9457) that the commands read."""

    type: str
    status: int
    detail: str
    errors: tuple[Fault, ...] = ()


class ApiError(Exception):
    """A call that the API refused."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """``document``: the problem document as it came. Raises msgspec.ValidationError if it is not one."""
        self.document = document
        self.problem = msgspec.convert(document, ProblemDocument)
        super().__init__(self.problem.detail)

    @property
    def needs_force(self) -> bool:
        return self.problem.type.endswith(":force-needed")


class Unreachable(Exception):
    """No answer, or an answer that is not the admin API's."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    document: Any
    """The JSON as it came."""
    type: type[T]

    @property
    def value(self) -> T:
        """The answer as a struct. Raises Unreachable if it has another form."""
        try:
            return msgspec.convert(self.document, self.type, str_keys=True)
        except msgspec.ValidationError as exc:
            raise Unreachable(
                f"the API's answer has an unexpected form: {exc}. Does it run another version? --json prints the answer"
            ) from exc


Credential = Callable[[str, str, Mapping[str, str], bytes | None], Mapping[str, str]]
"""Returns the headers of a call with the credential added, from its method, URL, headers and body."""


def bearer(token: str) -> Credential:
    """Returns a token of the admin API as a credential. Raises ValueError if it contains other than printable ASCII."""
    if not token.isascii() or not token.isprintable():
        raise ValueError("the token contains characters that are not allowed in a token")
    return lambda _method, _url, headers, _body: {**headers, "Authorization": f"Bearer {token}"}


def signature() -> Credential:
    """Returns AWS credentials, as boto3 finds them, for an admin API with IAM authorization.

    Raises ValueError if there are none.
    """
    from botocore.auth import SigV4Auth  # noqa: PLC0415 - slow to import and rarely needed
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.session import get_session  # noqa: PLC0415

    session = get_session()
    credentials = session.get_credentials()
    if credentials is None:
        raise ValueError("no AWS credentials were found to sign requests with")

    def sign(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Mapping[str, str]:
        gateway = _GATEWAY.fullmatch(urlsplit(url).hostname or "")
        region = gateway[1] if gateway else session.get_config_variable("region") or "us-east-1"
        request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
        SigV4Auth(credentials, "execute-api", region).add_auth(request)
        return dict(request.headers.items())

    return sign


class ApiClient:
    def __init__(self, url: str, credential: Credential, *, patient: bool = True) -> None:
        """``patient``: waits for slow answers, and retries. Otherwise a call soon fails.

        Raises ValueError if ``url`` is not an address, or would send the credential unencrypted.
        """
        parts = urlsplit(url)
        local = parts.hostname in LOCAL
        if not parts.hostname or parts.scheme not in ("http", "https") or (parts.scheme == "http" and not local):
            raise ValueError(
                f"{url!r} is not the address of an admin API; expected https://..., or http://127.0.0.1:..."
            )
        self.url = url.rstrip("/")
        self._credential = credential
        self._pool = (
            urllib3.PoolManager(timeout=TIMEOUT, retries=RETRIES)
            if patient
            else urllib3.PoolManager(timeout=BRIEF, retries=False)
        )

    def get(self, path: str, type: type[T], **query: str | int | Sequence[str] | None) -> Answer[T]:
        parameters = {name: value for name, value in query.items() if value is not None}
        return self.call("GET", path, type, query=parameters)

    def call(
        self,
        method: str,
        path: str,
        type: type[T],
        *,
        query: Parameters | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer[T]:
        """Makes a call and returns the answer. A POST carries an idempotency key. Raises ApiError, Unreachable."""
        sent = {"Accept": "application/json", "User-Agent": "sluice", **(headers or {})}
        if method == "POST":
            sent.setdefault("Idempotency-Key", str(uuid.uuid4()))
        if body is not None:
            sent["Content-Type"] = "application/json"
        address = self.url + path + ("?" + urlencode(query, doseq=True, quote_via=quote) if query else "")
        content = None if body is None else json.dumps(body).encode()
        try:
            signed = self._credential(method, address, sent, content)
            response = self._pool.request(method, address, body=content, headers=signed)
        except urllib3.exceptions.HTTPError as exc:
            reason = getattr(exc, "reason", None) or exc
            raise Unreachable(f"{self.url} does not answer: {reason}") from exc
        try:
            document = json.loads(response.data)
        except ValueError:
            document = None
        if response.status < 300 and document is not None:
            return Answer(document, type)
        if isinstance(document, dict):
            raise _api_error(response.status, document)
        raise Unreachable(f"{self.url} answered {response.status} without JSON: is it the admin API?")

    def pages(
        self, path: str, type: type[T], key: str, *, most: int = ALL, page: int = PAGE, **query: str | None
    ) -> Answer[T]:
        """Returns up to ``most`` entries under ``key`` as if they were one page; reads pages of ``page`` entries."""
        entries: list[Any] = []
        cursor = None
        while True:
            document = self.get(path, dict, limit=min(most, page), cursor=cursor, **query).document
            entries += document[key]
            cursor = document["next"]
            if cursor is None or len(entries) >= most:
                return Answer({**document, key: entries[:most]}, type)


def _api_error(status: int, document: Mapping[str, Any]) -> ApiError:
    """Returns the error for a problem document of the API, or for an answer of API Gateway itself."""
    with suppress(msgspec.ValidationError):
        return ApiError(document)
    message = str(document.get("message") or document.get("Message") or "no reason given")
    detail = {
        401: "The token is unknown, revoked or expired. Set SLUICE_TOKEN.",
        403: f"The gateway refused the call ({message}). Is this the admin API's address, including its path (/api)?",
        429: "Too many calls at once. Try again in a moment.",
    }.get(status, f"The gateway says: {message}")
    return ApiError({"type": "about:blank", "title": "Refused by the gateway", "status": status, "detail": detail})
