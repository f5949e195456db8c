"""The suite in lmms-eval's YAML dialect."""
