"""Times as ratios: from records made by hand, and from clocks that run as told."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from reidlib.evaluation.distances import Vectors
from reidlib.pages import times

CPU = torch.device("cpu")
REPORTED = pd.DataFrame({"minutes": {"plain": 100.0, "ours": 180.0}})


def runs(*made):
    """made: row, seed, seconds (None: no record), images a second, device."""
    pairs = []
    for row, seed, seconds, rate, device in made:
        run = SimpleNamespace(row=SimpleNamespace(label=row, variant="as-published"), seed=seed, source="stand-in")
        pairs.append((run, SimpleNamespace(seconds=seconds, images_per_second=rate, device=device)))
    finished = [pair for pair in pairs if pair[1].seconds is not None]
    return SimpleNamespace(runs=[run for run, _ in pairs], records=lambda: finished)


# How much longer one row trains ---------------------------------------------------------------------------------------


def test_a_ratio_of_two_records_stands_beside_the_papers():
    view = times.ratio(runs(("plain", 0, 200.0, 90, "a"), ("ours", 0, 300.0, 60, "a")), REPORTED, "ours", "plain")
    assert view.texts() == [
        ["plain", "100.0", "200", "90.0", "a"],
        ["ours", "180.0", "300", "60.0", "a"],
        ["ours / plain", "1.80", "1.50", "", ""],
    ]
    assert "1 seed)" in view.columns[2].group


def test_a_ratio_is_one_of_means_over_the_seeds_that_both_rows_have():
    made = runs(
        ("plain", 0, 100.0, 90, "a"),
        ("plain", 1, 300.0, 30, "a"),
        ("plain", 2, 9000.0, 1, "another"),
        ("ours", 0, 500.0, 60, "a"),
        ("ours", 1, 300.0, 61, "a"),
        ("ours", 2, None, 0, ""),
    )
    lines = times.ratio(made, REPORTED, "ours", "plain").texts()
    assert lines[0][2:] == ["200", "90.0, 30.0, 1.0", "a; another"]
    assert lines[1][2:4] == ["400", "60.0, 61.0"] and lines[2][2] == "2.00"


@pytest.mark.parametrize(
    "ours, why",
    [
        (("ours", 0, None, 0, ""), "ours not run"),
        (("ours", 0, 300.0, 60, "b"), "the records come from different devices"),
        (("ours", 1, 300.0, 60, "a"), "the two rows have no seed in common"),
    ],
    ids=["missing", "devices", "seeds"],
)
def test_where_there_is_no_ratio_a_word_says_why(ours, why):
    lines = times.ratio(runs(("plain", 0, 200.0, 90, "a"), ours), REPORTED, "ours", "plain").texts()
    assert lines[2] == ["ours / plain", "1.80", *[f"no ratio: {why}"] * 3]
    assert lines[0][2:] == ["200", "90.0", "a"], "what was measured is shown all the same"
    assert (lines[1][2:] == ["not run"] * 3) == (ours[2] is None)


def test_no_printed_minutes_are_no_fault():
    made = runs(("plain", 0, 200.0, 90, "a"), ("ours", 0, 300.0, 60, "a"))
    lines = times.ratio(made, pd.DataFrame(), "ours", "plain").texts()
    assert [line[1] for line in lines] == ["–", "–", "–"] and lines[2][2] == "1.50"


# The time of the distances --------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_length_as_a_multiple_of_1024(monkeypatch):
    """A clock that doubles with the length, and is slow in the first round and in one other."""
    slow = iter([factor for factor in (50, 1, 1, 7, 1, 1) for _ in range(3)])
    monkeypatch.setattr(times, "_elapsed", lambda query, gallery, device: next(slow) * query.points.shape[1] / 1000)
    page = times.distances([512, 1024, 2048], (3, 5), CPU, "a <machine>")
    lines = page.tables()[0].texts()
    assert [line[:3] for line in lines] == [
        ["512", "0.50", "0.512"],
        ["1024", "1.00", "1.02"],
        ["2048", "2.00", "2.05"],
    ]
    assert lines[0][3] == "0.512 to 3.58"
    said = str(page)
    assert "a <machine>" in said and "3 queries to a gallery of 5" in said
    for words in ("Measured while this page was made", "synthetic", "no numbers of the figure"):
        assert words in said


def test_what_is_timed_are_the_distances_of_unit_vectors(monkeypatch):
    asked = []
    monkeypatch.setattr(times, "blocks", lambda queries, gallery: [slice(0, 4), slice(4, queries)])
    exact = Vectors.squared_distances

    def squared_distances(self, rows, others):
        found = exact(self, rows, others)
        asked.append(self.points.shape[1])
        given, gallery = (each.points * others.unit + others.centre for each in (self, others))
        assert torch.allclose(found * others.unit**2, torch.cdist(given[rows], gallery) ** 2, atol=1e-5)
        assert torch.allclose(gallery.norm(dim=1), torch.ones(len(others), dtype=torch.float64))
        return found

    monkeypatch.setattr(Vectors, "squared_distances", squared_distances)
    seconds = times.measure([8, 16], (7, 9), CPU, rounds=2)
    assert asked == [8, 8, 16, 16] * 3, "the lengths take turns, every block, one round more than counted"
    assert seconds.shape == (2, 2) and list(seconds) == [8, 16] and (seconds > 0).all(axis=None)
