"""Feeds over HTTPS: what a server may do, and where a name may lead."""

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chalicelib.core.addresses import NetworkSet
from chalicelib.edges.https_feeds import MOST_BYTES, HttpsFeeds
from chalicelib.ports import Unavailable

LIST = b"192.0.2.0/24\n"


def answer(content: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + content


class Server:
    """A server on this machine that gives each connection the next of ``answers``, in pieces."""

    def __init__(self, context: ssl.SSLContext, trusting: ssl.SSLContext, answers: Sequence[list[bytes]]) -> None:
        self.requests: list[bytes] = []
        self.trusting = trusting
        self._context = context
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    @contextmanager
    def running(self) -> Iterator["Server"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._listener.close()

    def reader(self, clock: Callable[[], float] = lambda: 0.0) -> HttpsFeeds:
        return HttpsFeeds(clock=clock, context=self.trusting, port=self.port, inside=NetworkSet(()))

    def _serve(self) -> None:
        for pieces in self._answers:
            try:
                plain, _ = self._listener.accept()
                with plain, self._context.wrap_socket(plain, server_side=True) as client:
                    self.requests.append(client.recv(65536))
                    for piece in pieces:
                        client.sendall(piece)
            except OSError:  # the reader went away, or never came
                continue


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    path: Path = tmp_path_factory.mktemp("tls") / "pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(path)
    return serving, ssl.create_default_context(cafile=str(path))


@pytest.fixture
def serve(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Callable[..., Server]]:
    running = []

    def start(*answers: list[bytes]) -> Server:
        manager = Server(*contexts, answers).running()
        running.append(manager)
        return manager.__enter__()

    yield start
    for manager in running:
        manager.__exit__(None, None, None)


Serve = Callable[..., Server]


def test_a_list_is_read(serve: Serve) -> None:
    server = serve([answer(LIST)])
    assert server.reader().read("https://localhost/lists/all.txt?form=text") == LIST
    assert server.requests[0].startswith(b"GET /lists/all.txt?form=text HTTP/1.1\r\nHost: localhost\r\n")


def test_an_answer_in_chunks_is_joined(serve: Serve) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = serve([head, b"4\r\n192.\r\n", b"9\r\n0.2.0/24\n\r\n0\r\n\r\n"])
    assert server.reader().read("https://localhost/") == LIST


def test_redirects_are_followed_to_other_places_and_not_for_ever(serve: Serve) -> None:
    moved = [answer(b"", "Location: /elsewhere", status="302 Found")]
    server = serve(moved, [answer(LIST)])
    assert server.reader().read("https://localhost/list") == LIST
    assert server.requests[1].startswith(b"GET /elsewhere ")
    with pytest.raises(Unavailable, match="more than 3 redirects"):
        serve(*[moved] * 4).reader().read("https://localhost/list")


@pytest.mark.parametrize("target", ["http://localhost/list", "file:///etc/passwd", "https://localhost:22/"])
def test_a_redirect_does_not_leave_https(serve: Serve, target: str) -> None:
    server = serve([answer(b"", f"Location: {target}", status="301 Moved Permanently")])
    with pytest.raises(Unavailable, match=r"not an address such as https://example\.com"):
        server.reader().read("https://localhost/list")


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([answer(b"no", status="404 Not Found")], "localhost answers with status 404"),
        ([answer(LIST)[:-3]], "IncompleteRead"),
        ([answer(LIST, "Content-Encoding: gzip")], "encoded as gzip, which was not asked for"),
        ([answer(LIST), b"x" * 65536 * 17], f"more than {MOST_BYTES:,} bytes"),
        ([b"X-Header: " + b"x" * 65536 * 17], f"more than {MOST_BYTES:,} bytes"),
        ([b"SSH-2.0-x\r\n"], "localhost: SSH-2.0-x"),
        ([], "localhost: "),
    ],
)
def test_any_other_answer_is_an_error_that_names_the_server(serve: Serve, pieces: list[bytes], reason: str) -> None:
    with pytest.raises(Unavailable, match=reason) as raised:
        serve(pieces).reader().read("https://localhost/list?key=secret")
    assert "secret" not in str(raised.value)


def test_an_answer_that_takes_too_long_is_given_up_however_often_something_arrives(serve: Serve) -> None:
    times = iter(range(100))
    server = serve([answer(LIST)[:20], *[b"a"] * 100])
    with pytest.raises(Unavailable, match="no complete answer within 10 seconds"):
        server.reader(clock=lambda: float(3 * next(times))).read("https://localhost/list")


def test_a_certificate_of_another_name_is_not_accepted(serve: Serve) -> None:
    with pytest.raises(Unavailable, match="certificate verify failed"):
        serve([answer(LIST)]).reader().read("https://127.0.0.1/list")


@pytest.mark.parametrize(
    "url", ["https://localhost/", "https://127.0.0.1/", "https://169.254.169.254/latest/meta-data"]
)
def test_no_connection_is_made_to_an_address_of_the_inside(url: str) -> None:
    with pytest.raises(Unavailable, match="is not of the Internet"):
        HttpsFeeds().read(url)


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "::ffff:10.0.0.1", "fd00:ec2::254", "64:ff9b::a9fe:a9fe", "fe80::1%lo"]
)
def test_a_name_with_any_address_of_the_inside_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        family = socket.AF_INET if ip_address(address.partition("%")[0]).version == 4 else socket.AF_INET6
        public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("198.51.100.1", port))
        return [public, (family, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(Unavailable, match=r"example\.com: its address .* is not of the Internet"):
        HttpsFeeds().read("https://example.com/list")


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "https://user:word@example.com/", "https://example.com:8443/", "https:///list"),
        *("list.txt", "https://example.com/\r\nX: y", "https://[::1]/", "https://[", "https://exämple.com/", ""),
    ],
)
def test_an_address_of_another_form_is_refused_without_a_secret_in_the_message(url: str) -> None:
    with pytest.raises(Unavailable, match="not an address such as") as raised:
        HttpsFeeds().read(url)
    assert "word" not in str(raised.value)
