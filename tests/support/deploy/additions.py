"""The additions to the template of the stack, as text and parsed: once, because that takes most of a second."""

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

TEXT = (Path(__file__).parents[3] / ".chalice" / "resources.yaml").read_text()
TEMPLATE: dict[str, Any] = yaml.load(TEXT, Loader=yaml.CSafeLoader)  # which is safe, and fast
