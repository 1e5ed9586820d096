"""Log files to requests: ``files`` reads them in chunks, ``file_decoder`` decodes these with the decoders of Lambda."""
