"""Prompts as a checkpoint wants them: its chat template, rendered once, and who writes BOS."""
