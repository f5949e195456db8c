"""The model that a recipe trains: read, made ready for training, and written."""
