"""One answer, looked at: what was asked and said, what counts of it, and the same asked again."""
