"""A stage that another version has left, as JSON: what is in its tables and IP sets (``functional/stage-0.1.json``).

Version 0.1 runs this file in its own tree, with a stage of a newer version on standard input. One more client then
makes forty requests. It writes the published addresses before them and a minute later, and the failures, to standard
output. So nothing is imported but what both versions have.
"""

import json
import sys
from base64 import b64decode
from typing import Any

from chalicelib.ports import Item, LogItem
from sluice.local.cloud import LocalCloud
from sluice.local.loop import SimulatedClock


def cloud_with(left: Any) -> LocalCloud:
    """Returns a local cloud, not started yet, that goes on with what another version has left, at the same time."""
    cloud = LocalCloud(SimulatedClock(left["at"] - 4), rules=left["rules"])
    cloud.state.put_over([Item(**{**item, "body": json.dumps(item["body"]).encode()}) for item in left["state"]])
    cloud.state.changes.clear()  # the other version has handled them
    for log, items in left["logs"].items():
        for item in items:
            cloud.tally_logs.append(log, item["offset"], [_log_item(item)])
    for shard, logs in left["registry"].items():
        cloud.tally_logs.register(shard, (), tuple(logs))
    for ip_set in cloud.waf.list_ip_sets(Scope="CLOUDFRONT")["IPSets"]:
        cloud.waf.update_ip_set(
            Name=ip_set["Name"],
            Scope="CLOUDFRONT",
            Id=ip_set["Id"],
            Addresses=left["ip_sets"][ip_set["Name"]],
            LockToken=ip_set["LockToken"],
        )
        cloud.loop.run(cloud.now() + 2)  # AWS WAF accepts an update per second
    cloud.stream._next = int(left["sequence"])
    return cloud


def _log_item(left: Any) -> LogItem:
    body = None if left["body"] is None else b64decode(left["body"])
    times = {name: left[name] for name in ("written_ms", "first_slot_ms", "last_slot_ms", "requests")}
    return LogItem(body=body, last_sequence=int(left["last_sequence"]), **times)


def main() -> None:
    left = json.load(sys.stdin)
    now, cloud = left["at"], cloud_with(left)

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


if __name__ == "__main__":
    main()
