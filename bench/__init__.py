"""Measurements. Most are ratios against a floor or a peer measured in the same run, because machines are noisy."""
