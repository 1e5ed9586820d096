"""Normal forms of paths, against an oracle that rewrites one piece at a time; and static files."""

import re
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.paths import STATIC_ENDINGS, is_page, is_static, normalised

pieces = st.lists(
    st.sampled_from(["/", "//", ".", "..", "a", "login", "%2F", "%2e", "%6C", "%25", "%", "é"]), max_size=12
)


def rewritten(path: str) -> str:
    """Returns the normal form of a path that starts with a slash, one rewriting after another."""
    path = unquote_to_bytes(path.encode()).decode("utf-8", "replace")
    path = re.sub("/+", "/", path)
    while re.search(r"/\.(?=/|$)", path):
        path = re.sub(r"/\.(?:/|$)", "/", path, count=1)
    while match := re.search(r"(?:/[^/]+)??/\.\.(?:/|$)", path):
        # The first ".." has no ".." before it, so the segment before it is a name, or there is none.
        path = path[: match.start()] + "/" + path[match.end() :]
    return path


@given(pieces)
def test_a_path_is_normalised_as_by_one_rewriting_after_another(parts: list[str]) -> None:
    path = "/" + "".join(parts)
    assert normalised(path) == rewritten(path)


@given(pieces)
def test_a_normal_form_stays_as_it_is_once_a_server_has_decoded_it(parts: list[str]) -> None:
    normal = normalised("/" + "".join(parts))
    assert normalised(quote(normal)) == normal


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("", ""),
        ("*", "*"),
        ("/", "/"),
        ("//", "/"),
        ("/%6Cogin", "/login"),
        ("/%6cogin", "/login"),
        ("/%256Cogin", "/%6Cogin"),
        ("/Login", "/Login"),
        ("/a/%2E%2E/login", "/login"),
        ("/a%2F..%2Flogin", "/login"),
        ("/../../login", "/login"),
        ("/./a/./login", "/a/login"),
        ("/login/", "/login/"),
        ("/login/..", "/"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/...", "/a/..."),
        ("/%zz%", "/%zz%"),
        ("login//", "login//"),
    ],
)
def test_a_normal_form(path: str, normal: str) -> None:
    assert normalised(path) == normal


def test_a_path_of_many_segments_is_normalised_in_one_pass() -> None:
    assert normalised("/a" * 50_000 + "/.." * 49_999) == "/a/"


def test_static_files_are_told_by_what_follows_the_last_dot() -> None:
    files = [path for ending in STATIC_ENDINGS for path in (f"/x.{ending}", f"/x.y.{ending.upper()}")]
    pages = ["", "/", "/css", "/x.php", "/x.css/", "/x.css/y", "/report.pdf", "/x.cssx", "/x.css.php"]
    assert [path for path in files + pages if is_static(path)] == files
    assert [path for path in files + pages if is_page(path)] == pages
