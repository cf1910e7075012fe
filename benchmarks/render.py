"""What an image of a stand-in costs, part by part, and how many images a second reach the disk.

    python benchmarks/render.py [DATASET ...] [--images 400] [--workers 2] [--device cpu] [--batch N]

Targets: composing at most 0.2 ms an image on one core; casting at least 20,000 images/s on one H100-class GPU; a
`small` Market-1501 within 20 s on two cores. Measured with two workers, from an empty cache: `reid render market1501`
takes 35 s of processor time, its start included. Composing takes 0.29 to 0.34 ms of one thread and misses its target:
the time is spread over some 450 short calls of Python an image, no function takes more than 7 %, and the draws of each
image must keep their order, or else its bytes would change.

The first table gives processor time of one thread, and the share of the sum: `composing` is the work in Python and
numpy before an image's rays are cast; `joining` copies a batch to the device; `casting` and `shading` work there in
torch; `JPEG` encodes; `truth` encodes part mask and factors. On a GPU joining, casting and shading are wall time, and
the speed of casting is at the end of a line.
The second table is wall time: images written with all workers, their start included, and what a whole set takes on the
disk: measured bytes an image, times the number at scale 1 (Market-1501's JPEG files without gt_bbox, its truth with
it).
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image

from reidlib import standin
from reidlib.standin.domain import Domain
from reidlib.standin.groundtruth import line_of
from reidlib.standin.layouts import TIGHT
from reidlib.standin.plan import plan
from reidlib.standin.raycast import cast
from reidlib.standin.rendering import joined, pixels
from reidlib.standin.scene import compose_all
from reidlib.standin.write import BATCH, DEVICE_BATCH

PARTS = ("composing", "joining", "casting", "shading", "JPEG", "truth")
T = TypeVar("T")


@torch.inference_mode()
def in_memory(domain: Domain, images: int, device: str, batch: int) -> dict[str, float]:
    """Seconds an image for each of `PARTS`."""
    torch.set_num_threads(1)
    specs = plan(domain, min(1.0, 2.0 * images / len(plan(domain, 0.1, 0)) * 0.1), 0)
    specs = specs[:: max(1, len(specs) // images)][:images]
    on_gpu, spent = torch.device(device).type == "cuda", defaultdict[str, float](float)
    clock = time.perf_counter if on_gpu else time.process_time

    def timed(part: str, work: Callable[[], T]) -> T:
        begin = clock()
        result = work()
        if on_gpu:
            torch.cuda.synchronize()  # it works on while the processor continues
        spent[part] += clock() - begin
        return result

    def encode(image, quality: int) -> None:
        Image.fromarray(image).save(io.BytesIO(), format="JPEG", quality=quality, optimize=True)

    pixels(compose_all(domain, 0, specs[:batch]), device)  # loads what the first call loads
    for start in range(0, len(specs), batch):
        some = specs[start : start + batch]
        scenes = timed("composing", lambda some=some: compose_all(domain, 0, some))
        together = timed("joining", lambda scenes=scenes: joined(scenes, device))
        timed("casting", lambda together=together: cast(together))
        rendered = timed("whole", lambda scenes=scenes: pixels(scenes, device))
        shown, masks = rendered.images.cpu().numpy(), rendered.parts.cpu().numpy()
        for spec, scene, image, mask in zip(some, scenes, shown, masks, strict=True):
            timed("JPEG", lambda image=image, scene=scene: encode(image, scene.quality))
            timed("truth", lambda spec=spec, scene=scene, mask=mask: line_of(spec, scene.factors, mask))
    spent["shading"] = spent["whole"] - spent["joining"] - spent["casting"]
    return {part: spent[part] / len(specs) for part in PARTS}


def on_disk(name: str, scale: float, workers: int, device: str, truth: bool) -> tuple[float, float, float]:
    """Images a second, the start of the workers included; bytes of JPEG and of truth an image."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        root = Path(folder) / "set"
        out = standin.render(name, scale=scale, seed=0, out=root, workers=workers, device=device, truth=truth)
        seconds = time.perf_counter() - begin
        jpegs = [path.stat().st_size for path in out.rglob("*.jpg") if path.parent.name != TIGHT]
        known = sum(path.stat().st_size for path in out.glob("truth_*"))
        images = sum(1 for _ in out.rglob("*.jpg"))
    return images / seconds, sum(jpegs) / len(jpegs), known / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="*", metavar="DATASET", help=f"default: {', '.join(standin.DOMAINS)}")
    parser.add_argument("--images", type=int, default=400, help="how many of each set, about")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=None, help=f"images cast at a time; default {BATCH} on a cpu")
    parser.add_argument("--no-truth", action="store_true", help="write images only")
    words = parser.parse_args()
    batch = words.batch or (BATCH if words.device == "cpu" else DEVICE_BATCH)
    print(f"device {words.device}, {batch} images cast at a time, {words.workers} workers writing")
    names = words.datasets or standin.DOMAINS
    print(f"{'ms an image':<12}" + "".join(f"{part:>15}" for part in (*PARTS, "sum")))
    for name in names:
        spent = in_memory(standin.DOMAINS[name], words.images, words.device, batch)
        whole = sum(spent.values())
        shares = "".join(f"{1e3 * seconds:>9.3f} {seconds / whole:>4.0%} " for seconds in spent.values())
        print(f"{name:<12}{shares}{1e3 * whole:>15.3f}   casting {1 / spent['casting']:,.0f}/s")
    print(f"{'':<12}{'written':>14}{'JPEG':>14}{'truth':>14}")
    for name in names:
        specs = plan(standin.DOMAINS[name], 1.0, 0)
        whole, shown = len(specs), sum(spec.folder != TIGHT for spec in specs)
        scale = min(1.0, words.images / whole)
        speed, jpeg, known = on_disk(name, scale, words.workers, words.device, not words.no_truth)
        print(f"{name:<12}{speed:>12,.0f}/s{jpeg * shown / 2**20:>10.0f} MiB{known * whole / 2**20:>10.0f} MiB")


if __name__ == "__main__":
    main()
