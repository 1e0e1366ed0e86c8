"""Who is alive: the transceivers that may get new calls."""
