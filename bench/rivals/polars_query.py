"""Polars: prints each client over a limit and when, from a log in combined format."""

import sys

import polars as pl


def main(log: str, limit: str, window_s: str) -> None:
    line = pl.col("line")
    over = (
        pl.scan_csv(log, has_header=False, separator="\x1f", quote_char=None, new_columns=["line"])
        .select(
            line.str.extract(r"^(\S+)").alias("client"),
            line.str.extract(r"\[([^\]]+)\]").str.to_datetime("%d/%b/%Y:%H:%M:%S %z").alias("time"),
        )
        .sort("time")
        .with_columns((pl.col("time") - pl.col("time").shift(int(limit)).over("client")).alias("span"))
        .filter(pl.col("span") < pl.duration(seconds=int(window_s)))
        .group_by("client")
        .agg(pl.col("time").min().dt.epoch("s"))
        .collect()
    )
    for client, at in over.iter_rows():
        print(client, at)


main(*sys.argv[1:])
