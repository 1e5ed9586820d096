"""Paths of requests: their normal form, and those of static files."""

from urllib.parse import unquote

STATIC_ENDINGS = frozenset(
    (
        *("css", "js", "mjs", "map"),
        *("png", "jpg", "jpeg", "gif", "webp", "avif", "apng", "bmp", "ico", "cur", "svg", "svgz"),
        *("woff", "woff2", "ttf", "otf", "eot"),
        *("mp3", "m4a", "aac", "ogg", "oga", "opus", "flac", "wav"),
        *("mp4", "m4v", "webm", "ogv", "mov", "m3u8", "mpd", "m4s", "ts", "vtt"),
    )
)
"""Endings, after the last dot, of the files that browsers request by themselves as parts of a page: style sheets,
scripts, images, fonts, audio and video. Documents and archives, which a person or a program asks for, are not
included."""


def is_static(path: str) -> bool:
    """Returns whether a path ends like a static file, in any case.

    >>> is_static("/app.min.JS"), is_static("/photos/cat.jpg/"), is_static("/.png/page"), is_static("/terms.pdf")
    (True, False, False, False)
    """
    return path.rpartition(".")[2].lower() in STATIC_ENDINGS


def is_page(path: str) -> bool:
    """Returns whether a path is not that of a static file."""
    return path.rpartition(".")[2].lower() not in STATIC_ENDINGS


def normalised(path: str) -> str:
    """Returns the normal form of a path, in which nginx compares paths with its locations.

    Percent-encoding is decoded once, repeated slashes count as one, and the segments ``.`` and ``..`` are resolved.
    Above the root, ``..`` has no effect (RFC 3986, section 5.2.4). A text that does not start with a slash, such as the
    ``*`` of an OPTIONS request, is only decoded.

    >>> [normalised(path) for path in ("/%6Cogin", "//login", "/./a/../login", "/%2e%2e/login", "/login/.")]
    ['/login', '/login', '/login', '/login', '/login/']
    >>> normalised("/%256Cogin")
    '/%6Cogin'
    """
    if "%" in path:
        path = unquote(path)
    if not path.startswith("/") or ("//" not in path and "/." not in path):
        return path
    *folders, last = path.split("/")
    segments: list[str] = []
    for segment in folders:
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    if last == "..":
        del segments[-1:]
    name = "" if last in (".", "..") else last
    return "/" + "".join(f"{segment}/" for segment in segments) + name
