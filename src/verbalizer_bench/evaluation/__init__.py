"""Benchmarks that lmms-eval runs: which, by what commands, and what its results say."""
