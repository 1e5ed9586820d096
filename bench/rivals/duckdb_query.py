"""DuckDB: prints each client over a limit and when, from a log in combined format."""

import sys

import duckdb

QUERY = r"""
SELECT client, epoch(min(time)) FROM (
  SELECT client, time, time - lag(time, {limit}) OVER (PARTITION BY client ORDER BY time) AS span FROM (
    SELECT split_part(line, ' ', 1) AS client,
      strptime(regexp_extract(line, '\[([^\]]+)\]', 1), '%d/%b/%Y:%H:%M:%S %z') AS time
    FROM read_csv(
      '{log}', auto_detect = false, delim = '\x1f', quote = '', escape = '', columns = {{line: 'VARCHAR'}}
    )
  )
) WHERE span < INTERVAL '{window_s} seconds' GROUP BY client
"""


def main(log: str, limit: str, window_s: str) -> None:
    query = QUERY.format(log=log, limit=limit, window_s=window_s)
    for client, at in duckdb.connect(config={"threads": 1}).sql(query).fetchall():
        print(client, int(at))


main(*sys.argv[1:])
