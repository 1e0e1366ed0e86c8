"""Bytes to dataclasses and back, in plain Python: the slow, readable twins of the data plane's leaves."""
