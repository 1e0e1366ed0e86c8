"""def wrappers around the data plane's leaves, for tests and fuzzing only."""
