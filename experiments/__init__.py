"""Experiments: the data they are made of, their recipes, how they are run, and what came out."""
