"""The output folder: what is recorded there, the model card, the losses."""
