"""Escaping of text that clients wrote, before it reaches a terminal, a table, a log line or a page."""


def printable(text: str | bytes) -> str:
    """Returns ``text`` as one line that shows every character; those that would control a terminal are escaped.

    Control characters, line ends, invisible marks such as those that change the direction of writing, and halves of
    surrogate pairs are escaped; in bytes, everything except printable ASCII. A backslash in ``str`` remains as it is.

    >>> printable("/caf\\u00e9\\x1b[2J\\u202e"), printable(b"a\\tb\\xff")
    ('/café\\\\x1b[2J\\\\u202e', 'a\\\\tb\\\\xff')
    """
    if isinstance(text, bytes):
        return text.decode("latin-1").encode("unicode_escape").decode()
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
