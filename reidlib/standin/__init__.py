"""Stand-ins: rendered pedestrians in the folders, names and numbers of a real data set.

A data set (people, places, difficulty) is one file of `domains/`, read by `catalogue.py` into the classes of
`domain.py`; what is code in it (folders, file names, lists) is in `layouts.py`. `plan.py` decides which images there
are; `scene.py` turns one into numbers with `identity.py`, `body.py` and `props.py`; `geometry.py`, `raycast.py`,
`shade.py` and `rendering.py` turn numbers into pixels; `write.py` renders to disk; `groundtruth.py` keeps what the
renderer knows. `Variant` changes one factor of a set and leaves all others as they are.
"""

from .catalogue import DOMAINS, MANIFEST, VERSION, digest, is_complete
from .domain import Variant
from .groundtruth import FACTORS, Truth, truth
from .write import render

__all__ = ["DOMAINS", "FACTORS", "MANIFEST", "VERSION", "Truth", "Variant", "digest", "is_complete", "render", "truth"]
