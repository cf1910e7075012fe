"""What the page "What it took" adds up: a network once, whatever shares it."""

from dataclasses import replace

import made_up
import pytest

from reidlib.pages import hours
from reidlib.runs.run import read_runs


@pytest.fixture
def read():
    """Two tables of FMN as they stand in the committed records: one table's networks are all in the other."""
    return [read_runs(f"fmn/{name}", budget="small") for name in ("table1", "table2")]


def test_a_network_that_rows_and_tables_share_counts_once(read):
    one, two = hours.spent(read)
    assert (one.slug, one.done, one.rows, one.seeds) == ("fmn/table1", 3, 3, 1)
    made = [record for _, record in read[0].records()]
    assert len({record.network for record in made}) == 2 < len(made)
    by_hand = max(record.seconds for record in made)  # of FMN: the record holds its frozen GRN's hours, too
    assert one.hours == pytest.approx(by_hand / 3600)


def test_a_network_trained_first_counts_once(read):
    """FMN's table 5: four places of LAN beside one and the same GRN, whose time is in each record."""
    (one,) = hours.spent([read_runs("fmn/table5", budget="small")])
    made = [record for _, record in read_runs("fmn/table5", budget="small").records()]
    grn = next(record for _, record in read[0].records() if record.made_for["row"] == "GRN")
    by_hand = grn.seconds + sum(record.seconds - grn.seconds for record in made)
    assert one.hours == pytest.approx(by_hand / 3600) and 3600 * one.hours < 0.6 * sum(each.seconds for each in made)


def test_splits_stand_on_one_line(house):
    name = "cuhk03-classic-detected"
    read = [read_runs("safenet/table2-five-pairs", budget="small", dataset=f"{name}-{n:02}") for n in (1, 2)]
    for run in (run for runs in read for run in runs.runs[:1]):
        made_up.write(run)
    (one,) = hours.spent(read)
    assert one.dataset == f"{name}-01 … -20" and one.hours == 6 / 3600 and one.done == 1


def test_tables_that_share_networks_share_their_hours(read):
    one, two = hours.spent(read)
    both = hours.together([one, two])._repr_html_()
    assert both == hours.together([one])._repr_html_(), "the second table has trained nothing of its own"
    assert "2 networks" in both and "nothing has run on a GPU yet" in both


def test_a_gpu_hour_is_one_of_its_device(read):
    (one, _) = hours.spent(read)
    other = replace(one, seconds={("n", "cuda (NVIDIA H200)"): 7200.0})
    text = hours.together([one, other])._repr_html_()
    assert "cuda (NVIDIA H200): 1 networks, 2.0 hours" in text and "nothing has run on a GPU" not in text
    assert ">2.00<" in hours.by_table([other])._repr_html_()


def test_the_speed_of_the_loop_is_shown_as_it_was_measured():
    case = {"size": [256, 128], "batch": 16, "bare step": 8.0, "our loop": 7.6, "conventional": 3.8, "memory_mb": 2048}
    measured = {"device": "cpu (<a>)", "torch": "2.15.0", "commit": "0123456789", "budget": "small", "steps": 6}
    measured |= {
        "rounds": 3,
        "workers": 2,
        "cases": {"IDE": case | {"share": 0.95, "ratio": 2.0}, "FMN": {"error": "X"}},
    }
    text = hours.speed(measured)._repr_html_()
    for words in (
        "256×128",
        ">8.0<",
        ">7.6<",
        ">95 %<",
        ">2.00 ×<",
        ">2,048<",
        "failed: X",
        "cpu (&lt;a&gt;)",
        "0123456",
    ):
        assert words in text, words


def test_the_page_says_whose_images(read):
    assert "standin-banner" in hours.banner("stand-in")._repr_html_()
    assert "real-banner" in hours.banner("real")._repr_html_()


def test_a_table_without_records_is_not_listed(read):
    assert hours.spent([read_runs("fmn/table3", budget="small")]) == []
    assert "No network" in hours.together([])._repr_html_()
