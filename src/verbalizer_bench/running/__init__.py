"""Running an evaluation: arguments, lm-eval's harness, resuming, and merging shards."""
