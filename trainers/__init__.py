"""Train checkpoints from recipes: `train.py` does it, `dry_run.py` says what it would take."""
