"""The ``sluice`` command: the local cloud and demo, replays of log files, the operator's commands, and deployment."""

from pathlib import Path

import chalicelib

DEFAULT_RULES = Path(chalicelib.__file__).with_name("rules.toml")
"""The rules that ``sluice setup`` installs first. They only count."""
