"""NaturalBench (Li et al. 2024, arXiv 2410.14669): two images, two questions, opposite answers."""
