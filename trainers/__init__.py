"""How checkpoints are made: `train.py` from a recipe, `dry_run.py` says what it would take."""
