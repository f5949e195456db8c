"""What `report` and `compare` say: text, JSON, figures, one page."""
