"""The one evaluator: two sets of features in, a ranking out, under any protocol, with or without re-ranking."""

import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reidlib.evaluation.features import Features, check_same_dimensions
from reidlib.evaluation.protocols import MARKET1501_MULTI_QUERY, MARKET1501_SINGLE_QUERY, Protocol
from reidlib.evaluation.protocols import protocol as named
from reidlib.evaluation.ranking import Draws, Ranking, check_queries, rank, rank_distances
from reidlib.evaluation.reranking import ECN, RERANKINGS, KReciprocal
from reidlib.spec import ReidError


def evaluate(
    query: Features,
    gallery: Features,
    *,
    protocol: Protocol = MARKET1501_SINGLE_QUERY,
    multi: Features | None = None,
    metric: str | None = None,
    rerank: KReciprocal | ECN | None = None,
    block: int | None = None,
    seed: int = 0,
) -> Ranking | Draws:
    """Ranks the gallery for every query, on the device of the queries' features, and scores it.

    multi   the images from which a multi-query protocol takes the mean of each query's identity and camera; under the
            cosine metric each is scaled to length 1 before the mean, as MSGWDP's released code does
    metric  "euclidean" (features as they are) or "cosine" (scaled to length 1). None: the re-ranking's, or euclidean
    rerank  None, or how the distances are re-ranked first; junk takes no part in it
    block   how many images are compared with all others at a time; None keeps blocks within 64 MiB
    seed    of the random galleries of a protocol with draws

    Returns a `Ranking`, or `Draws` under a protocol that draws its gallery; both have `.metrics()`, in percent."""
    if protocol.multi_query != (multi is not None):
        needs = "needs the images to average (multi)" if protocol.multi_query else "takes no images to average (multi)"
        raise ReidError(f"protocol {protocol.name} {needs}; give them, or choose another protocol")
    check_same_dimensions(query, gallery)
    sets = f"{query.name} and {gallery.name}"
    check_queries(protocol, query.ids, sets)
    metric = metric or (rerank.metric if rerank else "euclidean")
    if multi is not None:
        query = multi.pooled_for(query, unit=metric == "cosine")
    kept = ~torch.isin(gallery.ids, torch.tensor(protocol.junk, dtype=torch.int64))
    if rerank and kept.any() and not kept.all():
        gallery = gallery[kept]

    def once(query: Features, gallery: Features) -> Ranking:
        try:
            if rerank is None:
                return rank(query, gallery, protocol=protocol, metric=metric, block=block)
            distances = rerank.distances(query.features, gallery.features, metric=metric, block=block)
        except ReidError as fault:  # of the features alone, which have no name there
            raise ReidError(f"{sets}: {fault}") from None
        labels = query.ids, query.cameras, gallery.ids, gallery.cameras
        return rank_distances(distances, *labels, protocol=protocol)

    def drawn(generator: torch.Generator) -> Ranking:
        """The queries of each camera against the gallery drawn for it."""
        answer = Ranking.excluded(protocol, len(query))
        for camera, places in drawn_galleries(query, gallery, generator).items():
            asked = query.cameras == camera
            part = once(query[asked], gallery[places])
            for field in fields(Ranking)[1:]:
                getattr(answer, field.name)[asked.numpy()] = getattr(part, field.name)
        return answer

    generator = torch.Generator().manual_seed(seed)
    draws = tuple(drawn(generator) for _ in range(protocol.draws))
    answer = Draws(draws) if draws else once(query, gallery)
    if not answer.valid.any():
        first = f"first query: identity {int(query.ids[0])}, camera {int(query.cameras[0])}"
        what = f"none of the {len(query)} queries has a true match in the gallery under {protocol.name} ({first})"
        raise ReidError(f"{what}; check that ids and cameras of {sets} are counted alike and that the cameras differ")
    return answer


def drawn_galleries(query: Features, gallery: Features, generator: torch.Generator) -> dict[int, torch.Tensor]:
    """One draw, by the camera that asks: positions of one random gallery image of each identity, of other cameras."""
    shuffled = torch.randperm(len(gallery), generator=generator)
    found = {}
    for camera in query.cameras.unique().tolist():
        others = shuffled[gallery.cameras[shuffled] != camera]
        if len(others):
            _, first = np.unique(gallery.ids[others], return_index=True)  # in the shuffled list
            found[camera] = others[first]
    return found


def evaluate_files(
    query: Path | str,
    gallery: Path | str | None = None,
    *,
    multi: Path | str | None = None,
    protocol: str | None = None,
    metric: str | None = None,
    rerank: KReciprocal | ECN | None = None,
) -> dict[str, Any]:
    """What `reid evaluate --json` prints, of files as `Features.read` takes them; on the GPU where there is one.

    gallery: None where the first file holds both sets. protocol: its name; None: Market-1501's rules, multi-query where
    `multi` is given. Returns the metrics, the names of protocol and re-ranking, and the seconds it took, reading not
    counted."""
    rules = named(protocol) if protocol else MARKET1501_MULTI_QUERY if multi is not None else MARKET1501_SINGLE_QUERY
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sets = {"query": query, "gallery": query if gallery is None else gallery}
    asking, answering = (Features.read(sets[part], part, joint=gallery is None).to(device) for part in sets)
    several = Features.read(multi, "multi").to(device) if multi is not None else None
    started = time.perf_counter()
    answer = evaluate(asking, answering, protocol=rules, multi=several, metric=metric, rerank=rerank)
    seconds = time.perf_counter() - started
    name = next((name for name, kind in RERANKINGS.items() if isinstance(rerank, kind)), None)
    return answer.metrics() | {"protocol": rules.name, "rerank": name, "seconds": seconds}
