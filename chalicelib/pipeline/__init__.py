"""The functions of the pipeline, and the parts that they share."""
