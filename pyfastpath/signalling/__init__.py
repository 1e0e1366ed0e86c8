"""Offer in, answer out: the HTTP side of a call. It keeps no call state."""
