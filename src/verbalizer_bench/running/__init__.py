"""How a run is made: arguments, lm-eval's harness, what is kept of it, and shards put together."""
