"""A laboratory for one question: why does my generator collapse onto one output, and which remedy really helps?"""

__version__ = "0.2.0"
