"""What a log line becomes: requests as columns, one module per log format."""
