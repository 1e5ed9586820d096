"""The deployment package: its size, and the CPU time that a cold start spends on importing ``app.py`` from it."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from statistics import median
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from bench.measure import Figure

ROOT = Path(__file__).parents[1]
IN_LAMBDAS_RUNTIME = ("boto3", "botocore", "s3transfer", "dateutil", "six", "urllib3", "jmespath")
MOST_BYTES = 5_000_000
IMPORT_BUDGET = 1.3
ROUNDS = 9
IMPORTING = """
import sys, time
sys.path[:0] = {path!r}
start = time.process_time()
{work}
print(time.process_time() - start)
"""


def figures() -> Iterable[Figure]:
    with TemporaryDirectory() as directory:
        package = made(Path(directory))
        size = package.stat().st_size
        yield Figure(
            "package.bytes", size, "bytes", MOST_BYTES, "zipped deployment package, as chalice package makes it"
        )
        code, runtime = Path(directory, "code"), Path(directory, "runtime")
        ZipFile(package).extractall(code)
        runtime.mkdir()
        for name in IN_LAMBDAS_RUNTIME:
            origin = Path(str(getattr(find_spec(name), "origin", "")))
            target = origin.parent if origin.name == "__init__.py" else origin
            (runtime / target.name).symlink_to(target)
        path = [str(code), str(runtime)]
        works = ("import app", "import app, boto3", "import chalice, boto3")
        rounds = [[import_s(path, work) for work in works] for _ in range(ROUNDS)]
        app, whole, bare = (median(times) for times in zip(*rounds, strict=True))
        yield Figure("package.import", app * 1000, "ms CPU", None, "import app in a fresh interpreter")
        yield Figure("package.import.ratio", app / bare, "", IMPORT_BUDGET, "import app, over import chalice and boto3")
        how = "the same with boto3, which the first call needs"
        yield Figure("package.import.whole", whole / bare, "", None, how)


def made(directory: Path) -> Path:
    """Returns the package, built in a copy of the files that Chalice reads, for this machine's processor.

    Compiled modules of the deployed architecture could not be imported elsewhere; their size is about the same.
    """
    project = directory / "project"
    project.mkdir()
    for name in ("app.py", "requirements.txt"):
        copy(ROOT / name, project / name)
    for name in ("chalicelib", ".chalice"):
        copytree(ROOT / name, project / name, ignore=ignore_patterns("__pycache__", "deploy*"))
    config_file = project / ".chalice" / "config.json"
    config = json.loads(config_file.read_text())
    config["lambda_architecture"] = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    config_file.write_text(json.dumps(config))
    subprocess.run(
        [sys.executable, "-c", "from chalice.cli import main; main()", "package", "out"],
        cwd=project,
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        check=True,
        capture_output=True,
    )
    return project / "out" / "deployment.zip"


def import_s(path: list[str], work: str) -> float:
    """Returns the CPU seconds of ``work`` in an interpreter that sees only the package and Lambda's own libraries.

    Both sides keep their bytecode from round to round, so that only the work of importing is compared.
    """
    program = IMPORTING.format(path=path, work=work)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout)
