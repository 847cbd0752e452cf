"""The version, apart from the package so that its modules can import it without its functions."""

__version__ = "0.2.0"
