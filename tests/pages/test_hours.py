"""What the page "What it took" adds up: a network once, whatever shares it."""

import made_up
import pandas as pd
import pytest

from reidlib.pages import banners, hours
from reidlib.runs.run import read_runs


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Two tables of FMN: one table's networks are all in the other. A GRN takes 300 s, and an FMN a minute or more on
    top of the GRN that is trained before it, as the records have it."""
    monkeypatch.setenv("REID_RESULTS", str(tmp_path / "read"))
    networks: list[str] = []
    for name in ("table1", "table2", "table5"):
        for run in read_runs(f"fmn/{name}", budget="small").runs:
            networks += [run.network] if run.settings.first and run.network not in networks else []
            own = 60.0 * (1 + networks.index(run.network)) if run.settings.first else 300.0
            curve = [{"epoch": 1, "loss": 1.0, "images": 32, "seconds": own}]  # of its own network alone
            if not run.is_made():
                made_up.write(run, seconds=own + 300.0 * bool(run.settings.first), curve=curve)
    return [read_runs(f"fmn/{name}", budget="small") for name in ("table1", "table2")]


def lines(read):
    return hours.by_table(hours.spent(read)).texts()


def test_a_network_that_rows_and_tables_share_counts_once(read):
    one, two = lines(read)
    assert [one[0], one[1], *one[4:7]] == ["FMN table1", "market1501", "1", "3 of 3", "small"] and two[
        0
    ] == "FMN table2"
    made = [record for _, record in read[0].records()]
    assert len({record.network for record in made}) == 2 < len(made)
    by_hand = max(record.seconds for record in made)  # of FMN: the record holds its frozen GRN's hours, too
    assert float(one[2]) == pytest.approx(by_hand / 3600, abs=0.0051)


def test_a_network_trained_first_counts_once(read):
    """FMN's table 5: four places of LAN beside one and the same GRN, whose time is in each record."""
    found = hours.spent([read_runs("fmn/table5", budget="small")])
    made = [record for _, record in read_runs("fmn/table5", budget="small").records()]
    grn = next(record for _, record in read[0].records() if record.made_for["row"] == "GRN")
    by_hand = grn.seconds + sum(record.seconds - grn.seconds for record in made)
    assert hours.once(found)["seconds"].sum() == pytest.approx(by_hand)
    assert by_hand < 0.6 * sum(each.seconds for each in made)


def test_splits_stand_on_one_line(house):
    name = "cuhk03-classic-detected"
    read = [read_runs("safenet/table2-five-pairs", budget="small", dataset=f"{name}-{n:02}") for n in (1, 2)]
    for run in (run for runs in read for run in runs.runs[:1]):
        made_up.write(run)
    (one,) = lines(read)
    assert one[1] == f"{name}-01 … -20" and one[5].startswith("1 of ")
    assert hours.once(hours.spent(read))["seconds"].sum() == 6


def test_tables_that_share_networks_share_their_hours(read):
    both = str(hours.together(hours.spent(read)))
    assert both == str(hours.together(hours.spent(read[:1]))), "the second table has trained nothing of its own"
    assert "2 networks" in both and "no table has been trained on a GPU yet" in both


def test_a_gpu_hour_is_one_of_its_device(read):
    one = hours.spent(read[:1])
    other = one.iloc[:1].assign(network="n", device="cuda (NVIDIA H200)", kind="cuda", seconds=7200.0)
    text = str(hours.together(pd.concat([one, other])))
    assert "cuda (NVIDIA H200): 1 network, 2.00 hours" in text and "trained on a GPU" not in text
    assert hours.by_table(other).frame["device hours"][0] == "2.00"


def test_seconds_are_not_shown_as_no_time(read):
    short = hours.spent(read[:1]).iloc[:1].assign(seconds=10.0)
    assert hours.by_table(short).frame["device hours"][0] == "< 0.01"


def test_the_speed_of_the_loop_is_shown_as_it_was_measured():
    case = {"size": [256, 128], "batch": 16, "bare step": 8.0, "our loop": 7.6, "conventional": 3.8, "memory_mb": 2048}
    measured = {"device": "cpu (<a>)", "torch": "2.15.0", "commit": "0123456789", "budget": "small", "steps": 6}
    measured |= {
        "rounds": 3,
        "workers": 2,
        "cases": {"IDE": case | {"share": 0.95, "ratio": 2.0}, "FMN": {"error": "X"}},
    }
    page = hours.speed(measured)
    cells = page.tables()[0].texts()
    text = str(page)
    assert cells[0] == ["IDE", "256×128", "16", "8.0", "7.6", "95 %", "3.8", "2.00 ×", "2,048"]
    assert cells[1] == ["FMN", *["failed: X"] * 8]
    assert "cpu (<a>)" in text and "0123456" in text and "3 rounds of 6 steps" in text
    assert "Code 0123456. A lower bound." in str(hours.speed(measured | {"note": "A lower bound."}))
    measured["cases"] |= {
        "IDE": case | {"share": 0.95, "ratio": 2.0, "graph": 30.0},
        "eager": case | {"share": 1.0, "ratio": 2.0},
    }
    cells = hours.speed(measured).tables()[0].texts()
    assert cells[0][3:7] == ["8.0", "30.0", "7.6", "95 %"], "of the graph"
    assert cells[2][3:6] == ["8.0", "", "7.6"], "a network whose step could not be recorded"


def test_the_page_says_whose_images():
    assert banners.hours("stand-in").css == "standin-banner"
    assert banners.hours("real").css == "real-banner"


def test_a_table_without_records_is_not_listed(read):
    found = hours.spent([read_runs("fmn/table3", budget="small")])
    assert hours.by_table(found).texts() == []
    assert "Not run yet" in str(hours.together(found))
