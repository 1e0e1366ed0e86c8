"""`pyfastpath bench`: packet rates through a relay, measured so that nobody can argue with them.

options -> run (survey or one workload) -> figures -> report. A load is a generator and a sink on their own
CPU (load), the relay between them is one of its own, one with an admin socket, or one that knows our tokens
(relays). Everything that decides or prints is pure.
"""
