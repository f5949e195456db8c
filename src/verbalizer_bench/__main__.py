"""Run the command line: `verbalizer-bench …`, or `python -m verbalizer_bench …`."""

import sys


def main() -> int:
    """Run a command; Ctrl-C while the package is imported is a line as it is later."""
    try:
        from verbalizer_bench.cli import main as command
    except KeyboardInterrupt:
        print("verbalizer-bench: interrupted: the same command starts again", file=sys.stderr)
        return 130
    return command()


if __name__ == "__main__":
    raise SystemExit(main())
