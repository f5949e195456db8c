"""Build training data with language models: synthetic instruction data from images and captions.

`build.py` builds a data set, `dry_run.py` says what it would cost. Below them, each importing from
those to its left: client, pipeline, filters, export, kinds.
"""
