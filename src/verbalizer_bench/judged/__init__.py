"""Judged benchmarks: a checkpoint answers, a judge gives verdicts, and both are kept."""
