"""Recipes: a YAML file for each checkpoint and each data set, and how such a file is read."""
