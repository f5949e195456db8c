"""How results are read, compared and published."""
