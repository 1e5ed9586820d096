"""The functions of the pipeline, and what they share."""
