"""A seeded synthetic world in which the paper is repeated in miniature."""
