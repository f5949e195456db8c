"""The lm-eval adapters of LLMs and LVLMs, and what they record of a run."""
