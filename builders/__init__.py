"""Build training data with language models: instruction data from images, and preference data.

`build.py` builds a data set, `dry_run.py` says what it would cost. Below them, each importing from
those to its left: client, pipeline, filters, export, kinds.
"""
