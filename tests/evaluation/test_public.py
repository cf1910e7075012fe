"""`reid evaluate` agrees with two public evaluators on sets where these are right: every query has a match, no ties.

How the values were made: each program scored the sets of `made` on 2026-11-27, with numpy 2 and double precision.
torchreid (KaiyangZhou/deep-person-reid, commit f8cd150): `evaluate_rank` of torchreid/metrics/rank.py, its Python code,
with distances from numpy and without junk, which its loader drops. baseline (layumi/Person_reID_baseline_pytorch,
commit 82ff40f): the whole evaluate.py on the pytorch_result.mat written here, features of length 1; it prints six
digits of a share, and its average precision is by trapezoids.
"""

import json
from random import Random

import pytest
from scipy.io import savemat

from reidlib import cli

SETS = {
    "easy": dict(seed=1, people=30, queries=60, gallery=400, spread=0.4),
    "hard": dict(seed=3, people=40, queries=80, gallery=500, spread=0.6),
}


def made(seed, people, queries, gallery, spread):
    """(features, ids, cameras) of queries and gallery, which also has junk (−1) and distractors (0), as lists.

    `Random.random` gives the same numbers in every version of Python.
    """
    draw = Random(seed).random
    centres = [[draw() for _ in range(8)] for _ in range(people + 2)]

    def one(identity, camera):
        return [value + spread * (draw() - 0.5) for value in centres[identity + 1]], identity, camera

    asked = [one(1 + place % people, 1 + place % 2) for place in range(queries)]
    sure = [one(1 + place, 3) for place in range(people)]  # every query has a match in a third camera
    others = [one(int(draw() * (people + 2)) - 1, 1 + int(draw() * 4)) for _ in range(gallery - people)]
    return tuple(list(zip(*images, strict=True)) for images in (asked, sure + others))


VALUES = {
    "easy euclidean torchreid": {"rank1": 95, "rank5": 100, "rank10": 100, "mAP": 91.45170},
    "easy cosine torchreid": {"rank1": 91.66667, "rank5": 100, "rank10": 100, "mAP": 83.97076},
    "easy cosine baseline": {"rank1": 91.66670, "rank5": 100, "rank10": 100, "mAP_trapezoid": 83.11520},
    "hard euclidean torchreid": {"rank1": 76.25, "rank5": 95, "rank10": 97.5, "mAP": 58.09103},
    "hard cosine torchreid": {"rank1": 71.25, "rank5": 88.75, "rank10": 97.5, "mAP": 53.68226},
    "hard cosine baseline": {"rank1": 71.25, "rank5": 88.75, "rank10": 97.5, "mAP_trapezoid": 51.34130},
}


@pytest.mark.parametrize("case", VALUES)
def test_the_command_agrees_with(case, tmp_path, capsys):
    name, metric, _ = case.split()
    query, gallery = made(**SETS[name])
    fields = {"f": 0, "label": 1, "cam": 2}
    sets = {f"query_{field}": query[at] for field, at in fields.items()}
    sets |= {f"gallery_{field}": gallery[at] for field, at in fields.items()}
    savemat(tmp_path / "pytorch_result.mat", sets)
    assert cli.main(["evaluate", str(tmp_path / "pytorch_result.mat"), "--metric", metric, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ties"] == 0 and found["excluded_queries"] == 0
    assert {key: found[key] for key in VALUES[case]} == pytest.approx(VALUES[case], abs=2e-4)
