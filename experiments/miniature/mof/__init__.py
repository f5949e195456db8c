"""Mixtures of features in miniature: two towers blind to different things, and LLaVAs of them."""
