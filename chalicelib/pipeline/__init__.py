"""The pipeline's five functions, and the parts that they share."""
