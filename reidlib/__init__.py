"""reidlib: the library of the reproducibility study of five person re-identification papers."""

__version__ = "0.2.0"

ROOMS = (
    ("spec",),
    ("paths",),
    ("losses", "models", "data", "evaluation", "standin"),
    ("training",),
    ("papers",),
    ("runs",),
    ("pages",),
    ("book",),
    ("cli",),
)
"""The packages and modules of reidlib by level. Each imports only from earlier levels; a test checks it."""

ALLOWED = {("losses", "models")}
"""The one import within a level: the losses read what a model returns (`models.output`)."""
