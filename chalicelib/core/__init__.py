"""The pure core: bytes and numbers in, values out. No I/O, no clock, no environment."""
