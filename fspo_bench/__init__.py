"""fspo-bench: how well do language models personalise to real people?"""

__version__ = "0.1.0"
