"""Random interleavings of the real use cases over switching ports: any run can be repeated from its seed."""
