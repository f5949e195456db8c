"""The experiment: every arm on every base with several seeds, and its report."""
