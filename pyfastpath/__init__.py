"""Fastpath's control plane and tools. The data plane is the package `fastpath`."""

__version__ = "0.1.0"
