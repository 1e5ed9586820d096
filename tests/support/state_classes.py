"""The classes of ``chalicelib.core.state``, and those of their fields, by name."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from chalicelib.core import state

_MODULES = [import_module(module.name) for module in iter_modules(state.__path__, f"{state.__name__}.")]
CLASSES: dict[str, type[Any]] = {
    name: value for module in _MODULES for name, value in vars(module).items() if isinstance(value, type)
}
