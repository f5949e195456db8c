"""Evaluation while a model is trained: the curve of what tuning does to it."""
