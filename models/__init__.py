"""How a checkpoint is asked: lm-eval adapters and what they are made of."""
