"""Runs in the tree of version 0.1: its local cloud goes on for a minute with a stage that a newer version has left.

Reads the stage as JSON from standard input, in the form of ``tests/functional/stage-0.1.json``. One more client then
makes forty requests. Prints the published addresses before them and at the end, and the failures.
"""

import json
import sys
from base64 import b64decode

from chalicelib.ports import Item, LogItem
from sluice.local.cloud import LocalCloud
from sluice.local.loop import SimulatedClock

written = json.load(sys.stdin)
now = written["at"]
cloud = LocalCloud(SimulatedClock(now - 4), rules=written["rules"])
cloud.state.put_over([Item(**{**item, "body": json.dumps(item["body"]).encode()}) for item in written["state"]])
cloud.state.changes.clear()
for log, items in written["logs"].items():
    for item in items:
        fields = dict(item)
        offset, body = fields.pop("offset"), fields.pop("body")
        fields |= {"body": None if body is None else b64decode(body), "last_sequence": int(fields["last_sequence"])}
        cloud.tally_logs.append(log, offset, [LogItem(**fields)])
for shard, logs in written["registry"].items():
    cloud.tally_logs.register(shard, (), tuple(logs))
for ip_set in cloud.waf.list_ip_sets(Scope="CLOUDFRONT")["IPSets"]:
    cloud.waf.update_ip_set(
        Name=ip_set["Name"],
        Scope="CLOUDFRONT",
        Id=ip_set["Id"],
        Addresses=written["ip_sets"][ip_set["Name"]],
        LockToken=ip_set["LockToken"],
    )
    cloud.loop.run(cloud.now() + 2)
cloud.stream._next = int(written["sequence"])


def published() -> list[str]:
    return sorted({address for ip_set in cloud.waf._sets.values() for address in ip_set.addresses})


cloud.start()
cloud.loop.run(now + 10)
before = published()
for number in range(40):
    at = now + 10 + number / 40
    line = f"{at:.3f}\t203.0.113.99\t200\tGET\twww.example.com\t/\tback-{number:09d}==\tagent\t-\n"
    cloud.put(line.encode())
cloud.loop.run(now + 60)
json.dump({"before": before, "after": published(), "failures": cloud.invocation_failures}, sys.stdout)
