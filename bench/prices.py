"""Prices in dollars: those of the estimate, and AWS WAF's per request for comparison."""

from sluice.deploy import costs

PRICES = {**costs.PRICES, "waf.request": 0.60 / 1e6}
