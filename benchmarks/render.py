"""How many images a second the stand-in's renderer makes: in memory, and with JPEG files written.

    python benchmarks/render.py [--images 800] [--workers 2] [--device cpu]

The target is 150 images/s on 2 cores, writing included. `composing` is the work in plain Python and numpy before a
picture's rays are cast, `casting` the work in torch; both on one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from reidlib.data import standin
from reidlib.data.standin.market1501 import MARKET1501
from reidlib.data.standin.plan import plan
from reidlib.data.standin.rendering import pixels
from reidlib.data.standin.scene import compose
from reidlib.data.standin.write import BATCH


def in_memory(images: int, device: str) -> tuple[float, float]:
    """Seconds an image for composing and for casting, on one thread."""
    torch.set_num_threads(1)
    shots = plan(MARKET1501, 0.1, 0)
    shots = shots[:: max(1, len(shots) // images)][:images]
    pixels([compose(MARKET1501, 0, shot) for shot in shots[:BATCH]], device)
    composing = casting = 0.0
    for start in range(0, len(shots), BATCH):
        begin = time.perf_counter()
        pictures = [compose(MARKET1501, 0, shot) for shot in shots[start : start + BATCH]]
        middle = time.perf_counter()
        pixels(pictures, device)[0].cpu()
        composing += middle - begin
        casting += time.perf_counter() - middle
    return composing / len(shots), casting / len(shots)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--scale", type=float, default=0.05)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    words = parser.parse_args()
    composing, casting = in_memory(words.images, words.device)
    print(
        f"composing {1e3 * composing:.2f} ms, casting {1e3 * casting:.2f} ms an image: "
        f"{1 / (composing + casting):.0f} images/s on one thread"
    )
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        out = standin.render(
            "market1501",
            scale=words.scale,
            seed=0,
            out=Path(folder) / "set",
            workers=words.workers,
            device=words.device,
        )
        seconds = time.perf_counter() - begin
        images = sum(1 for _ in out.rglob("*.jpg"))
    print(
        f"{images} images written in {seconds:.1f} s with {words.workers} workers, their start included: "
        f"{images / seconds:.0f} images/s"
    )


if __name__ == "__main__":
    main()
