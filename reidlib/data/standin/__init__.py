"""Stand-ins: rendered pedestrians in the folders, names and numbers of a real data set.

`write.py` renders to disk; `plan.py` decides which pictures there are; `scene.py` turns one into numbers with
`identity.py`, `body.py` and `props.py`; `geometry.py`, `raycast.py` and `shade.py` turn numbers into pixels.
A domain (people, places, difficulty) is one file such as `market1501.py`.
"""

from .write import MANIFEST, VERSION, digest, is_complete, render

__all__ = ["MANIFEST", "VERSION", "digest", "is_complete", "render"]
