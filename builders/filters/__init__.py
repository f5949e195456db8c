"""Reject samples: wording, verifiers, near-duplicates, leakage of evaluation data."""
