"""The Lambda runtime and architecture that the functions get.

Chalice takes the architecture from its configuration (``lambda_architecture``), and packages wheels for it. It offers
no setting for the runtime: it always takes the version of the Python interpreter that runs it, both for ``chalice
deploy`` and for ``chalice package``. A template must not name another one, because msgspec's wheel in the package fits
only that version.
"""

import sys

RECOMMENDED = "python3.13"
"""Runtime to deploy with: AWS supports it until 2029, but deprecates python3.11 on 30 June 2027."""


def runtime_of_chalice() -> str:
    """Returns the runtime that Chalice chooses if it runs in this environment."""
    return "python{}.{}".format(*sys.version_info)


def outdated(runtime: str) -> bool:
    """Returns whether AWS ends support for a runtime earlier than for the recommended one.

    >>> outdated("python3.11"), outdated("python3.13"), outdated("python3.14")
    (True, False, False)
    """
    version, recommended = (name.removeprefix("python").split(".") for name in (runtime, RECOMMENDED))
    return [*map(int, version)] < [*map(int, recommended)]
