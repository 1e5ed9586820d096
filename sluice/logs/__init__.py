"""Turns log files into requests: ``files`` reads them in chunks, ``file_decoder`` decodes these as Lambda does."""
