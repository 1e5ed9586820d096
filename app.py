"""Chalice's entry point: Lambda invokes these functions as ``app.ingest`` and so on."""

import sys

sys.dont_write_bytecode = True  # Chalice packs what lies beside the code, and compiled modules differ with each build

from chalicelib.handlers import (  # noqa: E402
    app,
    authorize,
    enforce,
    evaluate,
    import_objects,
    ingest,
    publish,
    sweep,
)

__all__ = ["app", "authorize", "enforce", "evaluate", "import_objects", "ingest", "publish", "sweep"]
