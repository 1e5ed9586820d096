"""The pipeline's four functions, and the parts that they share."""
