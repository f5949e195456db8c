"""Submissions: folders of files from which everything that is claimed can be computed again."""
