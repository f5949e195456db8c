"""verbalizer-bench: does tuning hurt a model's ability to follow instructions?"""

from importlib.metadata import version

__version__ = version("verbalizer-bench")
