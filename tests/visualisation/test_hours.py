"""What the page "What it took" adds up: a network once, whatever shares it."""

from dataclasses import replace

import pytest

from reidlib import study
from reidlib.visualisation import hours


@pytest.fixture
def read():
    """Two tables of FMN as they stand in the committed records: one table's networks are all in the other."""
    return [study.read(f"fmn/{name}", budget="cpu") for name in ("table1", "table2")]


def test_a_network_that_rows_and_tables_share_counts_once(read):
    one, two = hours.spent(read)
    assert (one.slug, one.done, one.rows, one.seeds) == ("fmn/table1", 3, 3, 1)
    records = [record for _, record in read[0].records()]
    by_hand = {record.network: record.seconds for record in records}
    assert len(by_hand) == 2 < len(records)
    assert one.hours == pytest.approx(sum(by_hand.values()) / 3600)
    both = hours.together([one, two])._repr_html_()
    assert both == hours.together([one])._repr_html_(), "the second table has trained nothing of its own"
    assert "2 networks" in both and "nothing has run on a GPU yet" in both


def test_a_gpu_hour_is_one_of_its_device(read):
    (one, _) = hours.spent(read)
    other = replace(one, seconds={("n", "cuda (NVIDIA H200)"): 7200.0})
    text = hours.together([one, other])._repr_html_()
    assert "cuda (NVIDIA H200): 1 networks, 2.0 hours" in text and "nothing has run on a GPU" not in text
    assert ">2.00<" in hours.by_table([other])._repr_html_()


def test_the_page_says_whose_images(read):
    assert "standin-banner" in hours.banner("stand-in")._repr_html_()
    assert "real-banner" in hours.banner("real")._repr_html_()


def test_a_table_without_records_is_not_listed(read):
    assert hours.spent([study.read("fmn/table3", budget="cpu")]) == []
    assert "No network" in hours.together([])._repr_html_()
