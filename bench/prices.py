"""On-demand list prices of us-east-1 in dollars, without free tiers."""

from collections.abc import Mapping

PRICES: Mapping[str, float] = {
    "cloudfront.line": 0.01 / 1e6,
    "kinesis.shard.hour": 0.015,
    "kinesis.put_unit": 0.014 / 1e6,
    "lambda.request": 0.20 / 1e6,
    "lambda.gb_s": 0.0000166667,
    "dynamodb.write_unit": 0.625 / 1e6,
    "dynamodb.read_unit": 0.125 / 1e6,
    "waf.request": 0.60 / 1e6,
}
