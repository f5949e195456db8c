"""Make samples stage by stage: the recipe, its prompts, the stages and what they work with."""
