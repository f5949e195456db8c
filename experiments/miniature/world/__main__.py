"""Write the world: `python -m verbalizer_bench.experiments.miniature.world data/miniature`."""

from verbalizer_bench.experiments.miniature.world.build import main

main()
