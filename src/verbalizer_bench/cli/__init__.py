"""The command line: a module for each group of commands, a function for each command."""

from verbalizer_bench.cli.app import main as main
