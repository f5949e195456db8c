"""Checkpoints: loaded whole or refused, hashed, composed into a LLaVA and taken apart again."""
