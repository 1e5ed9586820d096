"""Runs a function as Lambda does in a new container: its environment, its package and boto3 on the path, one event.

Run by ``python -I -S``, without this machine's packages; standard input has the task as JSON.
"""

import json
import os
import sys
from importlib import import_module

task = json.load(sys.stdin)
os.environ.update(task["environment"])
sys.path[:0] = task["path"]
module, _, function = task["handler"].rpartition(".")
handler = getattr(import_module(module), function)
json.dump(handler(task["event"], None), sys.stdout)
