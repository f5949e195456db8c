"""How checkpoints are made."""
