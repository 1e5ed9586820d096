"""What the operator asks of a replayed log: summaries, comparisons, suggestions and reports."""
