"""How many images a second the stand-ins' renderer makes: in memory, and with JPEG files and truth written.

    python benchmarks/render.py [DATASET ...] [--images 400] [--workers 2] [--device cpu] [--batch N]

Targets: 150 images/s on 2 cores, writing included; 20,000 images/s casting on one H200-class GPU. `composing` is the
work in Python and numpy before an image's rays are cast, one thread on the processor whatever the device;
`casting` joins the scenes of a batch, copies them to the device and works there in torch, one thread where that is the
processor.
The last columns say what a whole set takes on the disk: measured bytes an image, times the number at scale 1
(Market-1501's JPEG files without gt_bbox, its truth with it).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from reidlib import standin
from reidlib.standin.domain import Domain
from reidlib.standin.layouts import TIGHT
from reidlib.standin.plan import plan
from reidlib.standin.rendering import pixels
from reidlib.standin.scene import compose
from reidlib.standin.write import BATCH, DEVICE_BATCH


def in_memory(domain: Domain, images: int, device: str, batch: int) -> tuple[float, float]:
    """Seconds an image for composing and for casting."""
    torch.set_num_threads(1)
    specs = plan(domain, min(1.0, 2.0 * images / len(plan(domain, 0.1, 0)) * 0.1), 0)
    specs = specs[:: max(1, len(specs) // images)][:images]
    begin = time.perf_counter()
    scenes = [compose(domain, 0, spec) for spec in specs]
    composing = time.perf_counter() - begin
    batches = [scenes[start : start + batch] for start in range(0, len(scenes), batch)]
    pixels(batches[0], device)
    _wait(device)
    begin = time.perf_counter()
    for one in batches:
        pixels(one, device)
    _wait(device)
    casting = time.perf_counter() - begin
    return composing / len(specs), casting / len(specs)


def _wait(device: str) -> None:
    """Wait until the device has finished; it works on while the processor continues."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


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
    print(
        f"{'':<12}{'composing':>12}{'casting':>12}{'casting':>14}{'both':>14}{'written':>14}{'JPEG':>12}{'truth':>12}"
    )
    for name in words.datasets or standin.DOMAINS:
        specs = plan(standin.DOMAINS[name], 1.0, 0)
        whole, shown = len(specs), sum(spec.folder != TIGHT for spec in specs)
        composing, casting = in_memory(standin.DOMAINS[name], words.images, words.device, batch)
        scale = min(1.0, words.images / whole)
        speed, jpeg, known = on_disk(name, scale, words.workers, words.device, not words.no_truth)
        print(
            f"{name:<12}{1e3 * composing:>9.2f} ms{1e3 * casting:>9.2f} ms{1 / casting:>12,.0f}/s"
            f"{1 / (composing + casting):>12,.0f}/s{speed:>12,.0f}/s"
            f"{jpeg * shown / 2**20:>8.0f} MiB{known * whole / 2**20:>8.0f} MiB"
        )


if __name__ == "__main__":
    main()
