"""Ranked lists against the evaluator that counts ranks without sorting, and the frames of their pictures."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from reidlib.evaluation import ECN, PROTOCOLS, Features, KReciprocal, evaluate
from reidlib.evaluation.ranking import average_precision
from reidlib.pages import retrieval
from reidlib.pages.retrieval import panel, ranked_list, write
from reidlib.spec import ReidError

MARKET = PROTOCOLS["market1501-single-query"]
GREEN, RED = to_rgb("#1a9641"), to_rgb("#d7191c")


def crowd(seed: int, steps: float = 0.0) -> tuple[Features, Features]:
    """Queries and a gallery with junk, distractors and same-camera images; rounded to `steps`, many of them tie."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(-1, 7, (90,), generator=draw)
    cameras = torch.randint(1, 4, (90,), generator=draw)
    people = torch.randn(8, 6, generator=draw)
    values = people[ids + 1] + torch.randn(90, 6, generator=draw)
    if steps:
        values = (values / steps).round() * steps
    values += (values == 0).all(1, keepdim=True)
    everyone = Features(values, ids, cameras)
    asking = (ids[:30] > 0).nonzero()[:, 0]
    return everyone[asking], everyone[torch.arange(30, 90)]


def paths(query: Features, gallery: Features) -> tuple[list[str], list[str]]:
    return [f"query/{i}.png" for i in range(len(query))], [f"gallery/{i}.png" for i in range(len(gallery))]


@pytest.mark.parametrize("protocol", ["market1501-single-query", "dukemtmc-single-query"])
@pytest.mark.parametrize("rerank", [None, KReciprocal(k1=6, k2=2), ECN(t=2, q=3)], ids=["plain", "k-reciprocal", "ECN"])
@pytest.mark.parametrize("metric, steps", [("cosine", 0.0), ("euclidean", 0.0), ("euclidean", 1.5), ("cosine", 1.5)])
def test_the_list_is_the_evaluators_ranking(protocol, rerank, metric, steps):
    for seed in range(3):
        query, gallery = crowd(seed, steps)
        rules = PROTOCOLS[protocol]
        answer = evaluate(query, gallery, protocol=rules, metric=metric, rerank=rerank)
        lists = ranked_list(
            query, gallery, *paths(query, gallery), protocol=rules, metric=metric, rerank=rerank, n=None
        )
        for place, (_, mine) in enumerate(lists.groupby("query", sort=False)):
            hits = mine["right"].to_numpy()
            assert mine["rank"].tolist() == list(range(1, len(mine) + 1)) and hits.sum() == answer.matches[place]
            assert (mine["rights"] == hits.sum()).all()
            if answer.valid[place]:
                assert mine["rank"][mine["right"]].iloc[0] == answer.first_hit[place]
                assert average_precision(hits) == pytest.approx(answer.ap[place], abs=1e-9)
                assert average_precision(hits, rule="trapezoid") == pytest.approx(answer.ap_trapezoid[place], abs=1e-9)


@pytest.mark.parametrize("rerank", [None, KReciprocal(k1=3, k2=2)], ids=["plain", "k-reciprocal"])
def test_the_list_of_a_drawn_gallery_is_the_first_draws(rerank):
    query, gallery = crowd(0)
    rules = PROTOCOLS["cuhk03-classic"]
    first = evaluate(query, gallery, protocol=rules, metric="cosine", rerank=rerank).rankings[0]
    lists = ranked_list(query, gallery, *paths(query, gallery), protocol=rules, rerank=rerank, n=None)
    for place, (_, mine) in enumerate(lists.groupby("query", sort=False)):
        assert mine["identity"].is_unique and (mine["camera"] != mine["query_camera"]).all()
        assert mine["rank"][mine["right"]].tolist() == ([first.first_hit[place]] if first.valid[place] else [])
    some = ranked_list(query, gallery, *paths(query, gallery), protocol=rules, rerank=rerank, which=[5, 2], n=3)
    wanted = [lists[lists["query"] == f"query/{place}.png"][:3] for place in (5, 2)]
    pd.testing.assert_frame_equal(some, pd.concat(wanted, ignore_index=True))


def test_a_list_by_hand():
    """Junk and the query's own camera have no line, the distractor is wrong, and in a tie the wrong one is first."""
    query = Features(torch.zeros(1, 1), [7], [1], name="query")
    distances = {"own camera": 0.1, "junk": 0.2, "right": 3.0, "tied": -3.0, "distractor": 4.0, "far": 5.0}
    gallery = Features(
        torch.tensor(list(distances.values()))[:, None], [7, -1, 7, 8, 0, 7], [1, 2, 2, 1, 2, 3], name="gallery"
    )
    found = ranked_list(query, gallery, ["q"], list(distances), protocol=MARKET, metric="euclidean")
    asked, answer = ["query", "query_identity", "query_camera"], ["rank", "gallery", "identity", "camera"]
    assert list(found.columns) == [*asked, *answer, "distance", "right", "rights"]
    assert found[["rank", "gallery", "identity", "camera", "right"]].values.tolist() == [
        [1, "tied", 8, 1, False],
        [2, "right", 7, 2, True],
        [3, "distractor", 0, 2, False],
        [4, "far", 7, 3, True],
    ]
    assert found["distance"].tolist() == pytest.approx([3, 3, 4, 5])
    assert (found[["query_identity", "query_camera", "rights"]] == [7, 1, 2]).all(axis=None)


def test_a_tie_of_far_away_images_flatters_nobody():
    """So far off that the width of a tie is lost in rounding."""
    query = Features(torch.full((1, 1), 1e6), [7], [1])
    gallery = Features(torch.ones(3, 1), [7, 8, 7], [2, 2, 3])
    found = ranked_list(query, gallery, ["q"], ["a", "wrong", "b"], protocol=MARKET, metric="euclidean")
    assert found["gallery"].tolist() == ["wrong", "a", "b"]
    assert evaluate(query, gallery, protocol=MARKET).first_hit[0] == 2


def test_distances_are_those_of_the_metric():
    query, gallery = crowd(0)
    a, b = query.features[3].double().numpy(), gallery.features.double().numpy()
    wanted = {
        "cosine": 1 - b @ a / np.linalg.norm(a) / np.linalg.norm(b, axis=1),
        "euclidean": np.linalg.norm(a - b, axis=1),
    }
    for metric, expected in wanted.items():
        found = ranked_list(query, gallery, *paths(query, gallery), protocol=MARKET, metric=metric, which=[3], n=None)
        place = found["gallery"].str.extract(r"(\d+)")[0].astype(int)
        assert np.allclose(found["distance"], expected[place], atol=1e-6)
        assert found["distance"].is_monotonic_increasing


@pytest.mark.parametrize("rerank", [None, KReciprocal(k1=6, k2=2)], ids=["plain", "k-reciprocal"])
def test_the_first_of_some_queries(rerank):
    query, gallery = crowd(1)
    given = query, gallery, *paths(query, gallery)
    whole = ranked_list(*given, protocol=MARKET, rerank=rerank, n=None)
    some = ranked_list(*given, protocol=MARKET, rerank=rerank, which=[5, 2], n=4)
    assert some["query"].tolist() == ["query/5.png"] * 4 + ["query/2.png"] * 4
    for name, part in some.groupby("query"):
        expected = whole[whole["query"] == name][:4]
        pd.testing.assert_frame_equal(part.reset_index(drop=True), expected.reset_index(drop=True))


def test_what_cannot_be_listed_is_said():
    query, gallery = crowd(0)
    own, others = paths(query, gallery)
    with pytest.raises(ReidError, match="59 gallery paths for 60 features"):
        ranked_list(query, gallery, own, others[1:], protocol=MARKET)
    one = query[query.cameras == 1], gallery[gallery.cameras == 1]
    with pytest.raises(ReidError, match="at least one row"):
        ranked_list(*one, *paths(*one), protocol=PROTOCOLS["cuhk03-classic"])
    with pytest.raises(ReidError, match="6 dimensions, those of .* 2"):
        ranked_list(query, Features(torch.ones(60, 2), gallery.ids, gallery.cameras), own, others, protocol=MARKET)


def test_cases_are_those_of_a_slow_loop():
    """Right in one list and wrong in the other, in the order of the seed's draw; the first answers beside them."""
    query, gallery = crowd(0)
    other = Features(query.features.roll(1, 1), query.ids, query.cameras)
    names = paths(query, gallery)
    first, second = (ranked_list(one, gallery, *names, protocol=MARKET, n=3) for one in (query, other))
    wanted = []
    for name in names[0]:
        answers = [frame[(frame["query"] == name) & (frame["rank"] == 1)].iloc[0] for frame in (first, second)]
        if answers[0]["right"] and not answers[1]["right"]:
            wanted.append((name, answers[1]["gallery"], answers[0]["gallery"]))
    found = retrieval.cases(first, second, 100)
    triples = {tuple(found["path"][start : start + 3]) for start in range(0, len(found), 3)}
    assert len(wanted) > 2 and triples == set(wanted) and len(found) == 3 * len(wanted)
    assert found["role"].tolist() == ["query", "wrong answer", "right answer"] * len(wanted)
    assert (found["identity"][0::3].to_numpy() == found["identity"][2::3].to_numpy()).all()
    assert (found["identity"][0::3].to_numpy() != found["identity"][1::3].to_numpy()).all()
    assert retrieval.cases(first, second, 2).equals(found[:6])
    assert not retrieval.cases(first, second, 2, seed=1).equals(found[:6])
    assert retrieval.cases(first, first, 2).empty
    with pytest.raises(ReidError, match="different queries"):
        retrieval.cases(first, second[second["query"] != names[0][0]], 2)


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(tmp_path):
    """A data set of flat pictures, each of its own grey, and the lists of two queries."""
    query, gallery = crowd(2)
    lists = ranked_list(query, gallery, *paths(query, gallery), protocol=MARKET, which=[0, 4], n=6)
    for number, path in enumerate([*lists["query"].unique(), *lists["gallery"].unique()]):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 100), (5 * number + 20,) * 3).save(tmp_path / path)
    return lists, tmp_path


def test_a_ranked_list_lies_beside_its_figure(shown):
    lists, folder = shown
    write(lists, folder / "figures" / "ranks.csv")
    again = pd.read_csv(folder / "figures" / "ranks.csv")
    pd.testing.assert_frame_equal(again, lists, atol=1e-6)
    assert b"\r" not in (folder / "figures" / "ranks.csv").read_bytes()
    assert len(panel({"": again}, folder).axes) == 2 * 11


def test_right_answers_are_green_with_a_tick_and_wrong_ones_red_with_a_cross(shown):
    lists, folder = shown
    assert set(lists["right"]) == {True, False}
    figure = panel({"ours": lists}, folder, n=6)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255  # from the bottom, as matplotlib counts
    for line, (_, answers) in zip(np.array(figure.axes).reshape(2, 7), lists.groupby("query", sort=False), strict=True):
        assert to_rgb(line[0].spines["left"].get_edgecolor()) == (0, 0, 0)
        assert line[0].get_ylabel() == f"ours\n{answers['rights'].iloc[0]} to find"
        for axes, answer in zip(line[1:], answers.to_dict("records"), strict=True):
            wanted = GREEN if answer["right"] else RED
            assert all(to_rgb(spine.get_edgecolor()) == wanted for spine in axes.spines.values())
            assert axes.get_title() == f"{answer['rank']} {'✓' if answer['right'] else '✗'}"
            box = axes.get_window_extent()
            for x, y in ((box.x0, box.y0 + box.height / 2), (box.x0 + box.width / 2, box.y0)):
                assert np.allclose(pixels[round(y), round(x)], wanted, atol=0.02)
            with Image.open(folder / answer["gallery"]) as picture:
                assert (axes.images[0].get_array()[96, 48] == picture.getpixel((20, 50))).all()


def test_two_networks_stand_below_one_another(shown):
    lists, folder = shown
    few = lists[lists["rank"] <= 2]
    lines = np.array(panel({"ours": lists, "baseline": few}, folder, n=6).axes).reshape(4, 7)
    assert [line[0].get_ylabel().split("\n")[0] for line in lines] == ["ours", "baseline"] * 2
    assert [[axes.axison for axes in line[1:]].count(True) for line in lines] == [6, 2, 6, 2]
    with pytest.raises(ReidError, match="'ours' and 'baseline' were asked different queries"):
        panel({"ours": lists, "baseline": lists[lists["query"] == "query/4.png"]}, folder)
    with pytest.raises(ReidError, match="no ranked list"):
        panel({}, folder)
