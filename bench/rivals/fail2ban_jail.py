"""A jail of fail2ban without a firewall: its own filter and count read a log, by the log's clock.

Runs in a process of its own, with fail2ban alone on its path. Prints the client and the epoch second of each ban.
"""

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from fail2ban.server.filter import Filter
from fail2ban.server.mytime import MyTime


class Jail:
    name = "rate"
    database = None

    def putFailTicket(self, ticket: Any) -> None:  # noqa: N802
        print(ticket.getID(), int(ticket.getTime()))


def main(log: str, limit: str, window_s: str) -> None:
    reader = Filter(Jail(), useDns="no")
    reader.setMaxRetry(int(limit) + 1)
    reader.setFindTime(int(window_s))
    reader.setDatePattern("%d/%b/%Y:%H:%M:%S %z")
    reader.addFailRegex("^<HOST> ")
    second = ""
    with Path(log).open() as lines:
        for line in lines:
            stamp = line.partition("[")[2].partition("]")[0]
            if stamp != second:
                second = stamp
                MyTime.setTime(datetime.strptime(stamp, "%d/%b/%Y:%H:%M:%S %z").timestamp())
            reader.processLineAndAdd(line.rstrip("\n"))


main(*sys.argv[1:])
