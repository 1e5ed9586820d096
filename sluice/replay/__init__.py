"""Rules tried on logs: the decoding, windows and decisions of Lambda, over files instead of a stream."""
