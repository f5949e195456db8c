"""Write the miniature world: `python -m verbalizer_bench.builders.miniature data/miniature`."""

from verbalizer_bench.builders.miniature.build import main

main()
