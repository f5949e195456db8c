"""Load the model that a recipe trains, choose its trained weights, and write the checkpoint."""
