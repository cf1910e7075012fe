"""Protocols end to end: the published metadata as witness, drawn galleries, multi-query, and `reid evaluate`."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from reidlib import cli
from reidlib.evaluation import ECN, PROTOCOLS, Draws, Features, KReciprocal, Protocol, evaluate
from reidlib.evaluation.protocols import MARKET1501_MULTI_QUERY, MARKET1501_SINGLE_QUERY, protocol
from reidlib.spec import ReidError

CUHK03_CLASSIC, CUHK03_NEW, MSMT17 = (PROTOCOLS[name] for name in ("cuhk03-classic", "cuhk03-new", "msmt17"))
METADATA = Path(__file__).parents[1] / "metadata"
KEYS = ["rank1", "rank5", "rank10", "rank20", "mAP", "mAP_trapezoid", "mINP", "queries", "excluded_queries", "ties"]


def clustered(count, *, size=16, people=8, spread=1.0, lowest=1, seed=0):
    """Features around one centre a person, which is the same for every seed."""
    centres = torch.randn(people + 1, size, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(lowest, people + 1, (count,), generator=generator)
    features = centres[ids.clamp(min=0)] + spread * torch.randn(count, size, generator=generator)
    return Features(features, ids, torch.randint(1, 4, (count,), generator=generator), f"set {seed}")


# --- protocols --------------------------------------------------------------------------------------------------------


def test_protocols_by_name():
    assert protocol("market1501-single-query") is MARKET1501_SINGLE_QUERY
    assert all(name == each.name and each.title for name, each in PROTOCOLS.items())
    assert len({each.title for each in PROTOCOLS.values()}) == len(PROTOCOLS)
    with pytest.raises(
        ReidError, match="unknown protocol 'market'; choose one of market1501-single-query.*market-to-duke"
    ):
        protocol("market")
    with pytest.raises(ReidError, match="identity 0 is both junk and distractor"):
        Protocol("x", "x", junk=(-1, 0), distractors=(0,))


def test_cross_domain_pairs_follow_the_target():
    pair = protocol("duke-to-market")
    assert (pair.junk, pair.distractors) == ((-1,), (0,)) and "trained on DukeMTMC-reID, tested on Market" in pair.title
    assert protocol("market-to-msmt17").distractors == ()
    assert sum("-to-" in name for name in PROTOCOLS) == 12
    for name in ("duke-to-duke", "market-to-viper"):
        with pytest.raises(ReidError, match=f"unknown protocol '{name}'; choose one of .*duke-to-market"):
            protocol(name)


def test_identity_0_is_a_person_where_no_protocol_says_otherwise():
    query, gallery = Features(torch.eye(2), [0, 1], [1, 1]), Features(torch.eye(2), [0, 1], [2, 2])
    assert evaluate(query, gallery, protocol=MSMT17).metrics()["queries"] == 2
    for options in ({}, dict(rerank=KReciprocal(1, 1))):
        with pytest.raises(
            ReidError, match="identity 0 .1 such.*no query shows; if your identities count from 0, add 1"
        ):
            evaluate(query, gallery, **options)


@pytest.mark.parametrize("kind, train, gallery", [("detected", 7365, 5332), ("labeled", 7368, 5328)])
def test_cuhk03_new_metadata_as_witness(kind, train, gallery):
    """The published split with random features: its counts, a match for every query, and chance-level numbers."""
    config = loadmat(METADATA / f"cuhk03_new_protocol_config_{kind}.mat")
    labels, cameras = config["labels"].ravel().astype(int), config["camId"].ravel().astype(int)
    places = {name: config[f"{name}_idx"].ravel().astype(int) - 1 for name in ("train", "query", "gallery")}
    assert [len(places[name]) for name in ("train", "query", "gallery")] == [train, 1400, gallery]
    assert len(np.unique(labels[places["train"]])) == 767 and len(np.unique(labels[places["query"]])) == 700
    generator = torch.Generator().manual_seed(0)
    query, others = (
        Features(torch.randn(len(at), 32, generator=generator), labels[at], cameras[at])
        for at in (places["query"], places["gallery"])
    )
    metrics = evaluate(query, others, protocol=CUHK03_NEW).metrics()
    assert (metrics["queries"], metrics["excluded_queries"]) == (1400, 0)
    assert metrics["mAP"] < 1 and metrics["rank20"] < 5


# --- drawn galleries --------------------------------------------------------------------------------------------------


def test_a_drawn_gallery_has_one_image_of_each_identity_of_the_other_camera():
    """Person 1 has a near and a far image in camera 2, person 2 one in between: the draw decides who is first."""
    query = Features([[0.0]], [1], [1])
    gallery = Features([[0.1], [2.0], [1.0], [0.0]], [1, 1, 2, 1], [2, 2, 2, 1])
    answer = evaluate(query, gallery, protocol=CUHK03_CLASSIC)
    assert isinstance(answer, Draws) and len(answer.rankings) == 100
    assert {ranking.first_hit[0] for ranking in answer.rankings} == {1, 2}
    share = np.mean([ranking.first_hit[0] == 1 for ranking in answer.rankings])
    assert 0.3 < share < 0.7, "each image of the other camera is drawn half the time"
    metrics = answer.metrics()
    assert metrics["rank1"] == pytest.approx(100 * share) and metrics["rank5"] == 100
    assert metrics["mAP"] == pytest.approx(100 * (share + (1 - share) / 2))
    assert (metrics["queries"], metrics["excluded_queries"]) == (1, 0)
    assert answer.spread()["rank1"] == pytest.approx(100 * np.sqrt(share * (1 - share) * 100 / 99))
    kept = answer.per_query()
    assert kept["rank1"].tolist() == [pytest.approx(share)] and kept["valid"].tolist() == [True]


def test_draws_equal_a_slow_loop_on_average():
    """Expected CMC at 1 by listing every possible gallery, against the mean of the draws."""
    query, gallery = clustered(4, people=3, spread=1.5), clustered(14, people=3, spread=1.5, seed=1)
    answer = evaluate(query, gallery, protocol=CUHK03_CLASSIC)
    for place in range(len(query)):
        groups = []
        for person in (1, 2, 3):
            at = (gallery.ids == person) & (gallery.cameras != query.cameras[place])
            groups.append((gallery.features[at] - query.features[place]).norm(dim=1).tolist())
        own = groups[int(query.ids[place]) - 1]
        others = [group for group in groups if group is not own and group]
        expected = np.mean([np.prod([np.mean([d < other for other in group]) for group in others]) for d in own])
        assert answer.cmc(1)[place] == pytest.approx(expected, abs=0.2)


def test_draws_repeat_with_their_seed_and_leave_out_who_has_no_match():
    query = Features(torch.eye(3), [1, 2, 3], [1, 1, 2])
    gallery = Features(torch.eye(3), [1, 2, 3], [2, 1, 2])
    answer = evaluate(query, gallery, protocol=CUHK03_CLASSIC)
    assert answer.valid.tolist() == [True, False, False] and answer.metrics()["excluded_queries"] == 2
    many, others = clustered(9), clustered(60, seed=1)
    first, again, other = (evaluate(many, others, protocol=CUHK03_CLASSIC, seed=seed).metrics() for seed in (0, 0, 1))
    assert first == again != other
    with pytest.raises(ReidError, match="none of the 2 queries has a true match in the gallery under cuhk03-classic"):
        evaluate(query[torch.tensor([1, 2])], gallery, protocol=CUHK03_CLASSIC)


# --- multi-query and re-ranking ---------------------------------------------------------------------------------------


def test_multi_query_by_hand():
    """The query itself is nearest to the wrong image, the mean of its two images to the right one."""
    query, gallery = Features([[1.0, 0.0]], [1], [1]), Features([[1.0, 0.1], [0.5, 0.6]], [2, 1], [2, 2])
    several = Features([[1.0, 0.0], [0.0, 1.0]], [1, 1], [1, 1])
    assert evaluate(query, gallery).metrics()["rank1"] == 0
    assert evaluate(query, gallery, multi=several, protocol=MARKET1501_MULTI_QUERY).metrics()["rank1"] == 100
    for given in (dict(multi=several), dict(protocol=MARKET1501_MULTI_QUERY)):
        with pytest.raises(ReidError, match="images to average"):
            evaluate(query, gallery, **given)


@pytest.mark.parametrize("rerank", [None, KReciprocal(k1=8, k2=3), ECN(k=10)], ids=str)
def test_junk_takes_no_part_re_ranked_or_not(rerank):
    query, gallery = clustered(20, spread=2.0), clustered(150, lowest=0, spread=2.0, seed=1)
    before = evaluate(query, gallery, rerank=rerank)
    junk = Features(query.features + 0.01, [-1] * 20, [3] * 20)
    more = Features(*(torch.cat((getattr(gallery, f), getattr(junk, f))) for f in ("features", "ids", "cameras")))
    assert evaluate(query, more, rerank=rerank).metrics() == before.metrics()
    with pytest.raises(ReidError, match="none of the 20 queries.*check that ids and cameras of set 0 and features are"):
        evaluate(query, junk, rerank=rerank)


def test_re_ranking_helps_where_neighbours_know_more():
    query, gallery = clustered(40, spread=1.6), clustered(400, spread=1.6, seed=1)
    plain, k_reciprocal, ecn = (
        evaluate(query, gallery, rerank=r).metrics()["mAP"] for r in (None, KReciprocal(), ECN())
    )
    assert k_reciprocal > plain + 5 and ecn > plain + 5


def test_sets_of_other_dimensions_are_named():
    with pytest.raises(ReidError, match="set 0: features have 16 dimensions, those of set 1 4; extract both"):
        evaluate(clustered(3), clustered(3, size=4, seed=1))


# --- reid evaluate ----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Query, gallery (with distractors and junk) and multi-query files, and the same as sets."""
    sets = clustered(20), clustered(150, lowest=-1, seed=1), clustered(400, seed=2)
    names = [tmp_path / f"{name}.npz" for name in ("query", "gallery", "multi")]
    for file, each in zip(names, sets, strict=True):
        np.savez(file, features=each.features.numpy(), ids=each.ids.numpy(), cameras=each.cameras.numpy())
    return [str(file) for file in names], sets


@pytest.mark.parametrize("words, options", [
    ([], {}),
    (["--metric", "cosine"], dict(metric="cosine")),
    (["--protocol", "dukemtmc-single-query"], dict(protocol=protocol("dukemtmc-single-query"))),
    (["--rerank", "k-reciprocal"], dict(rerank=KReciprocal())),
    (["--rerank", "k-reciprocal", "--k1", "7", "--k2", "2", "--lambda", "0.5"], dict(rerank=KReciprocal(7, 2, 0.5))),
    (["--rerank", "ecn", "--k", "9", "--t", "2", "--q", "4", "--distance", "original"],
     dict(rerank=ECN(9, 2, 4, "original"))),
])  # fmt: skip
def test_the_command_says_what_the_function_gives(files, capsys, words, options):
    names, (query, gallery, _) = files
    assert cli.main(["evaluate", *names[:2], *words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == [*KEYS, "protocol", "rerank", "seconds"]
    expected = evaluate(query, gallery, **options)
    assert {key: printed[key] for key in KEYS} == pytest.approx(expected.metrics())
    assert printed["protocol"] == expected.protocol.name
    assert printed["rerank"] == (words[1] if "--rerank" in words else None)
    assert cli.main(["evaluate", *names[:2], *words]) == 0
    shown = capsys.readouterr().out
    assert f"mAP {expected.metrics()['mAP']:.2f}" in shown and expected.protocol.title in shown
    assert str(options.get("rerank", "none")) in shown


def test_the_command_with_multi_query(files, capsys):
    names, (query, gallery, several) = files
    assert cli.main(["evaluate", *names[:2], "--multi", names[2], "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = evaluate(query, gallery, multi=several, protocol=MARKET1501_MULTI_QUERY).metrics()
    assert printed["protocol"] == "market1501-multi-query" and printed["mAP"] == pytest.approx(expected["mAP"])


@pytest.mark.parametrize("words, fault", [
    (["--k1", "3"], "a test without re-ranking has no option 'k1'; choose one of k-reciprocal, ecn"),
    (["--rerank", "ecn", "--lambda", "0.3"], "re-ranking ecn has no option 'lambda'; it has k, t, q, distance"),
    (["--rerank", "k-reciprocal", "--k1", "0"], "k1=0; give a whole number, 1 or more"),
    (["--rerank", "k-reciprocal", "--lambda", "2"], "lambda=2.0; give a number from 0 to 1"),
    (["--rerank", "k-reciprocal", "--k1", "400"], "k1 needs at least 401 images, but .* smaller k1"),
    (["--rerank", "ecn", "--q", "900"], "q needs at least 901 images"),
    (["--protocol", "market"], "unknown protocol 'market'"),
    (["--protocol", "market1501-multi-query"], "needs the images to average"),
])  # fmt: skip
def test_the_command_names_what_is_wrong(files, capsys, words, fault):
    assert cli.main(["evaluate", *files[0][:2], *words]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
    assert re.search(fault, printed)
