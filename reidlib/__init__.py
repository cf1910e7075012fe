"""reidlib: the library behind the reproducibility study of five person re-identification papers."""

__version__ = "0.1.0"
