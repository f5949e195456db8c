"""How training data is made: format-oriented and LLaVA-style instruction data."""
