"""The repair study: what brings back of what plain visual tuning cost, in the miniature."""
