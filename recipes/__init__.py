"""Recipes: a YAML file for each checkpoint and each data set."""
