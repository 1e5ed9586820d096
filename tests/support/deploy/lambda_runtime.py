"""What Lambda does in a fresh container: the function's environment, the package and boto3 on the path, one event.

Run with ``python -I -S``, so that nothing of this machine's packages is there; standard input holds what to do.
"""

import json
import os
import sys
from importlib import import_module

asked = json.load(sys.stdin)
os.environ.update(asked["environment"])
sys.path[:0] = asked["path"]
module, _, function = asked["handler"].rpartition(".")
handler = getattr(import_module(module), function)
json.dump(handler(asked["event"], None), sys.stdout)
