"""Write data sets: records in LLaVA's layout, the card, the report and its counts."""
