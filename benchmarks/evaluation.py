"""Ranking and re-ranking at Market-1501's size, beside the field's usual algorithms in plain numpy.

    python benchmarks/evaluation.py                  # Market's size: 3,368 queries, 15,913 gallery images, 2,048-d
    python benchmarks/evaluation.py --large          # MSMT17's size: 93,820 images of 512-d, re-ranking only
    python benchmarks/evaluation.py --device cuda

Features are synthetic: seeded clusters, one an identity, with a shift for each camera. Every case runs in a process of
its own. Seconds are of the second of two runs, distances included, imports and the reading of the features not; the
usual algorithms and the large size run once. Peak memory is the operating system's figure for the whole process,
imports and features included. The usual algorithms are written here from the papers' formulas, the way toolkits do it:
an N×N matrix of distances, sorted whole.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZES = {"market": (3_368, 15_913, 2_048, 750), "msmt17": (11_659, 82_161, 512, 3_060)}
"""Queries, gallery images, dimensions, identities."""

GOALS = {
    "ranking": "10 s",
    "k-reciprocal": "20 s, 2.2 GiB",
    "ECN": "30 s, 2.5 GiB",
    "k-reciprocal, large": "16 GiB",
    "ECN, large": "16 GiB",
}
"""For 2 cores where no GPU is named."""


def features(queries: int, gallery: int, dimensions: int, identities: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Clusters in which re-ranking has work to do; ids from 1, cameras 1 to 6."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((identities, dimensions), dtype=np.float32)
    shifts = random.standard_normal((6, dimensions), dtype=np.float32)
    spread = 4.0 * (dimensions / 2048) ** 0.5  # as hard at any number of dimensions
    made = {}
    for name, count in (("query", queries), ("gallery", gallery)):
        ids, cameras = random.integers(identities, size=count), random.integers(6, size=count)
        made[name] = spread * random.standard_normal((count, dimensions), dtype=np.float32)
        made[name] += centres[ids] + 0.5 * shifts[cameras]
        made[f"{name}_ids"], made[f"{name}_cameras"] = ids + 1, cameras + 1
    return made


# --- the field's usual algorithms -------------------------------------------------------------------------------------


def usual_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T


def usual_ranking(data: dict[str, np.ndarray], distances: np.ndarray | None = None) -> dict[str, float]:
    """Every row sorted whole, then a loop over the queries."""
    if distances is None:
        distances = usual_distances(data["query"], data["gallery"])
    order = np.argsort(distances, axis=1)
    precisions, first = [], []
    for row, identity, camera in zip(order, data["query_ids"], data["query_cameras"], strict=True):
        ids, cameras = data["gallery_ids"][row], data["gallery_cameras"][row]
        hits = (ids == identity)[(ids != identity) | (cameras != camera)]
        if not hits.any():
            continue
        found = hits.cumsum()
        precisions.append((found / np.arange(1, len(found) + 1))[hits].mean())
        first.append(np.argmax(hits))
    return {"mAP": 100 * float(np.mean(precisions)), "rank1": 100 * float(np.mean(np.array(first) == 0))}


def usual_k_reciprocal(data: dict[str, np.ndarray], k1: int = 20, k2: int = 6, share: float = 0.3) -> dict[str, float]:
    """Zhong et al. 2017: dense N×N distances, ranks and encodings."""
    everyone = np.concatenate((data["query"], data["gallery"]))
    queries, total = len(data["query"]), len(everyone)
    distances = np.maximum(usual_distances(everyone, everyone), 0)
    np.fill_diagonal(distances, 0)
    distances /= distances.max(axis=1, keepdims=True)
    ranks = np.argsort(distances, axis=1).astype(np.int32)

    def reciprocal(image: int, k: int) -> np.ndarray:
        near = ranks[image, : k + 1]
        return near[(ranks[near, : k + 1] == image).any(axis=1)]

    encodings = np.zeros((total, total), dtype=np.float32)
    for image in range(total):
        own = expanded = reciprocal(image, k1)
        for other in own:
            theirs = reciprocal(other, round(k1 / 2))
            if len(np.intersect1d(theirs, own)) > 2 / 3 * len(theirs):
                expanded = np.append(expanded, theirs)
        expanded = np.unique(expanded)
        weights = np.exp(-distances[image, expanded])
        encodings[image, expanded] = weights / weights.sum()
    encodings = np.stack([encodings[ranks[image, :k2]].mean(axis=0) for image in range(total)])
    answer = distances[:queries, queries:] * share
    holders = [np.flatnonzero(encodings[queries:, column]) for column in range(total)]
    for image in range(queries):
        shared = np.zeros(total - queries, dtype=np.float32)
        for column in np.flatnonzero(encodings[image]):
            at = holders[column]
            shared[at] += np.minimum(encodings[image, column], encodings[queries + at, column])
        answer[image] += (1 - share) * (1 - shared / (2 - shared))
    return usual_ranking(data, answer)


def usual_ecn(data: dict[str, np.ndarray], k: int = 25, t: int = 3, q: int = 8) -> dict[str, float]:
    """Sarfraz et al. 2018: dense N×N ranks and rank-list similarities."""
    everyone = np.concatenate((data["query"], data["gallery"]))
    everyone /= np.linalg.norm(everyone, axis=1, keepdims=True)
    queries, total = len(data["query"]), len(everyone)
    distances = 1 - everyone @ everyone.T
    np.fill_diagonal(distances, -1)
    ranks = np.argsort(distances, axis=1).astype(np.int32)
    weights = np.zeros((total, total), dtype=np.float32)
    np.put_along_axis(weights, ranks[:, :k].astype(np.int64), np.arange(k, 0, -1, dtype=np.float32)[None], axis=1)
    similarity = weights @ weights.T
    first = ranks[:, 1 : t + 1]
    around = np.concatenate((first, ranks[:, 1 : q + 1][first].reshape(total, -1)), axis=1)
    means = np.stack([similarity[around[image], queries:].mean(axis=0) for image in range(queries)])
    for image in range(queries, total):
        means[:, image - queries] += similarity[around[image], :queries].mean(axis=0)
    return usual_ranking(data, np.where(means > 0, -means / 2, distances[:queries, queries:]))


USUAL = {"ranking": usual_ranking, "k-reciprocal": usual_k_reciprocal, "ECN": usual_ecn}


# --- one case, in its own process -------------------------------------------------------------------------------------


def ours(case: str, data: dict[str, np.ndarray], device: str) -> tuple[float, dict[str, float]]:
    import torch

    from reidlib.evaluation import ECN, Features, KReciprocal, evaluate

    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(data.pop(name))

    query, gallery = (
        Features(tensor(name), tensor(f"{name}_ids"), tensor(f"{name}_cameras")).to(device)
        for name in ("query", "gallery")
    )
    rerank = {"ranking": None, "k-reciprocal": KReciprocal(), "ECN": ECN()}[case]
    for _ in range(2 if len(query) < 10_000 else 1):
        started = time.perf_counter()
        metrics = evaluate(query, gallery, rerank=rerank).metrics()
        seconds = time.perf_counter() - started
    return seconds, metrics


def one(case: str, kind: str, file: str, device: str) -> None:
    with np.load(file) as arrays:
        data = dict(arrays)
    if kind == "ours":
        seconds, metrics = ours(case, data, device)
    else:
        started = time.perf_counter()
        metrics = USUAL[case](data)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "peak": peak, "mAP": metrics["mAP"], "rank1": metrics["rank1"]}))


def measure(case: str, kind: str, file: Path, device: str) -> dict[str, float]:
    line = [sys.executable, __file__, "--one", case, kind, str(file), device]
    return json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="MSMT17's size, re-ranking only, no usual algorithm")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cases", nargs="+", choices=tuple(USUAL), default=tuple(USUAL))
    parser.add_argument("--ours-only", action="store_true", help="leave the usual algorithms out")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(*given.one)
        return
    size = "msmt17" if given.large else "market"
    cases = [case for case in given.cases if not (given.large and case == "ranking")]
    queries, gallery, dimensions, identities = SIZES[size]
    print(f"{queries:,} queries, {gallery:,} gallery images, {dimensions}-d, {identities:,} identities, {given.device}")
    print(f"{'':<22}{'seconds':>9}{'peak GiB':>10}{'mAP':>8}{'rank-1':>8}   goal")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npz"
        np.savez(file, allow_pickle=False, **features(queries, gallery, dimensions, identities))
        for case in cases:
            kinds = ("ours",) if given.large or given.ours_only else ("ours", "usual")
            found = {kind: measure(case, kind, file, given.device) for kind in kinds}
            for kind, row in found.items():
                goal = GOALS.get(f"{case}, large" if given.large else case, "") if kind == "ours" else ""
                name = case if kind == "ours" else "  usual, numpy"
                numbers = f"{row['seconds']:>9.2f}{row['peak']:>10.2f}{row['mAP']:>8.2f}{row['rank1']:>8.2f}"
                print(f"{name:<22}{numbers}   {goal}", flush=True)
            if "usual" in found:
                ratio = found["usual"]["seconds"] / found["ours"]["seconds"]
                memory = found["usual"]["peak"] / found["ours"]["peak"]
                print(f"{'  ratio':<22}{ratio:>8.1f}×{memory:>9.1f}×", flush=True)


if __name__ == "__main__":
    main()
