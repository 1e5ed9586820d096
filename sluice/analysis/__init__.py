"""Analyses of a replayed log: summaries, comparisons, explanations, suggested limits and reports."""
