"""The output folder: its records, the model card, the losses."""
