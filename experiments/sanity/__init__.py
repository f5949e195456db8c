"""Is the suite sane? What answers without a model score, and how far wording moves a model."""
