"""Log files: read in chunks of whole lines, format detected, decoded into requests.

``files`` reads, ``file_decoder`` decodes, and ``formats`` lists the formats. To add a format, write one module that
defines a ``LogFormat`` (``web_server`` is a short example) and add it to ``formats.FORMATS``.
"""
