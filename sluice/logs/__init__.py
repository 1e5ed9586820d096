"""Reads log files in chunks of whole lines, detects their formats, and decodes them into requests.

``files`` reads, ``file_decoder`` decodes, and ``formats`` lists the formats. To add a format, write one module that
defines a ``LogFormat`` (``web_server`` is a short example) and add it to ``formats.FORMATS``.
"""
