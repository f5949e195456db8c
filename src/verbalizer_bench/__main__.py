"""Run the command line: `python -m verbalizer_bench …`."""

from verbalizer_bench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
