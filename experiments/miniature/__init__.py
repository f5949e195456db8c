"""The paper in miniature: its checkpoints, trained and scored at toy scale without a network.

Everything goes through what a user's own checkpoints go through: recipes and trainers, adapters and
tasks. `world` is the synthetic data; `arms` trains and scores; `base` makes what they start from;
`study` is the experiment with its grid, `repair` the one about remedies, `results` what came out,
`demo` a small one. What both experiments use is beside them.
"""
