"""A real instruct model tuned with formats and without, and what brings back what that costs."""
