"""The table of prices, and one more to compare with. Dollars."""

from sluice.deploy import costs

PRICES = {**costs.PRICES, "waf.request": 0.60 / 1e6}
