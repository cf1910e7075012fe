"""Stand-ins: rendered pedestrians in the folders, names and numbers of a real data set.

`write.py` renders to disk; `plan.py` decides which pictures there are; `scene.py` turns one into numbers with
`identity.py`, `body.py` and `props.py`; `geometry.py`, `raycast.py` and `shade.py` turn numbers into pixels;
`groundtruth.py` keeps what the renderer knows. A data set (people, places, difficulty, names) is one file such as
`market1501.py`. `Variant` changes one factor of a set and leaves all others as they are.
"""

from .domain import Variant
from .groundtruth import FACTORS, Truth, truth
from .write import MANIFEST, VERSION, digest, is_complete, render

__all__ = ["FACTORS", "MANIFEST", "VERSION", "Truth", "Variant", "digest", "is_complete", "render", "truth"]
