"""The first page and "Status", with no record, with one seed and with three; their addresses; the foot of a page."""

import re

import made_up
import numpy as np
import pytest
from docutils import nodes
from docutils.utils import new_document
from matplotlib.figure import Figure

from reidlib import papers, paths
from reidlib.book import frame
from reidlib.pages import claims, contents, glance, progress
from reidlib.pages.render import Banner, Link
from reidlib.runs import estimates
from reidlib.runs.run import STUDY, runs_of


def hits(better: bool, seed: int) -> list[int]:
    """Ranks of the first match of 200 queries: 1 where the row is better, 3 where not, but for a few by chance."""
    ranks = np.full(200, 1 if better else 3)
    ranks[np.random.default_rng(seed).integers(0, 200, 5)] = 2
    return ranks.tolist()


def write(seeds, reverse=False) -> None:
    """Records of HAMR's Table 6: its full model is far better than all other rows, or far worse."""
    for run in runs_of("hamr/table6", budget="small", seeds=seeds):
        better = (run.row.label == "+ CAM") != reverse
        made_up.write(run, made_up.arrays(hits(better, run.seed)), data={**DATA, **run.data}, **TIMED)


DATA = {"images": {"train": 100, "query": 20, "gallery": 30}, "identities": 10}
TIMED = {"finished": "2026-02-03T04:05:06+00:00", "device_kind": "cuda", "device": "cuda (made up)"}


def decided():
    return glance.decided(budget="small")


def tile(shown, name: str) -> str:
    return next(number for words, number in shown.values["entries"].items() if words.endswith(name))


def test_the_headline_of_a_paper_is_its_claim_about_its_final_system(house):
    """FMN's and SafeNet's are about other tables than those of `SYSTEMS`, with the same two networks."""
    found = decided()
    headlines = {paper: glance.headline(found, paper).claim for paper in glance.SYSTEMS}
    assert {paper: (one.table, one.better, one.worse) for paper, one in headlines.items()} == {
        "safenet": ("table3", "SafeNet (ResNet-50)", "Single scale"),
        "mros": ("table1", "IV Complete MROS", "I s Non-Overlapping Stripes"),
        "msgwdp": ("table2", "Baseline + NL + MSG + WDP", "Baseline"),
        "fmn": ("table1", "FMN", "GRN"),
        "hamr": ("table6", "+ CAM", "Baseline"),
    }


def test_without_records_it_says_that_nothing_has_run(house, shown_by):
    shown = shown_by("study/glance")
    text = "\n".join(map(str, shown))
    found = decided()
    many, untestable = len({one.claim for one in found}), sum(bool(one.claim.untestable) for one in found)
    assert f"Nothing has been run yet: {many} claims of five person re-identification papers wait" in text
    assert tile(glance.counts(found), "tested") == "0" and "Download" not in text
    assert int(tile(glance.counts(found), "not testable")) <= untestable
    assert "SafeNet printed +12.9, here not run" in text and "MSGWDP printed lost, here not run" in text
    assert "newest record" not in text and "0 of 43" in text
    assert all(any(isinstance(piece, kind) for piece in shown) for kind in (Banner, Figure))


def test_one_seed_decides_nothing(house):
    write([0])
    found = decided()
    assert str(glance.sentence(found, "stand-in")).startswith("None of ")
    assert "too few seeds" in str(glance.five(found, [], budget="small", source="stand-in"))
    assert np.isfinite(glance.gains(found).loc["HAMR", "here"].mean)


@pytest.mark.parametrize("reverse", [False, True])
def test_three_seeds_are_counted_and_drawn(house, shown_by, reverse):
    write([0, 1, 2], reverse)
    found = decided()
    said = glance.verdicts(found)
    assert said.total() == len({one.claim for one in found})
    own = {one.claim for one in found if one.verdict == ("contradicted" if reverse else "supported")}
    assert glance.headline(found, "hamr").claim in own
    text = str(glance.sentence(found, "stand-in"))
    tested = sum(said[word] for word in claims.TESTED)
    assert f"{tested} have been tested on rendered images with 3 seeds a side: " in text
    assert f"{said['supported']} are supported, {said['contradicted']} contradicted" in text
    known = glance.gains(found)
    assert known.loc["HAMR", "printed"] == pytest.approx(87.7 - 71.1)
    difference = known.loc["HAMR", "here"].mean
    assert difference < -50 if reverse else difference > 50
    everything = "\n".join(map(str, shown_by("study/glance")))
    assert "newest record 2026-02-03" in everything and "3 seeds" in everything and "Download all records" in everything


def test_a_claim_on_which_data_sets_differ_is_undecided():
    both = {"supported", "undecided"}
    assert glance._together(both) == glance.UNDECIDED == glance._together({"supported", "contradicted"})
    assert glance._together({"supported", "not run"}) == "supported"
    assert glance._together({"not testable"}) == "not testable"
    assert glance._together({"not run", "too few seeds"}) == glance.WAITING


def test_status_lists_every_table_with_what_is_left(house, shown_by):
    shown = shown_by("study/status")
    text = "\n".join(map(str, shown))
    assert any(isinstance(piece, Banner) for piece in shown) and "not run" in text.lower()
    for slug, own in papers.tables().items():
        assert own.paper == STUDY or re.search(rf"reid reproduce {slug} --budget small", text), slug
    assert "Nothing has run at budget medium." in text and "is a guess" in text


def test_status_counts_what_has_run(house):
    write([0, 1])
    part = next(one for one in parts() if one.table.slug == "hamr/table6" and one.images == "market1501")
    rows = len(part.table.rows)
    assert (len(part.made), len(part.missing)) == (2 * rows, rows)
    assert len({(run.row.label, run.row.variant) for run, _ in part.made}) == rows
    write([2])
    done = next(one for one in parts() if one.table.slug == "hamr/table6" and one.images == "market1501")
    assert not done.missing and progress.seconds(done.missing, progress.PLACES["GPU"]) == 0
    assert str(progress.summary(parts())).startswith("1 of ")
    made_up.write(runs_of("hamr/table6", budget="small", rows=["+ CAM"], seeds=[3])[0], made_up.arrays([1, 2]))
    one = next(one for one in parts() if one.table.slug == "hamr/table6" and one.images == "market1501")
    assert progress._state(done)[:2] == [f"{rows} of {rows}", 3] and progress._state(one)[1] == "3 to 4"


def parts():
    return progress.parts(budget="small", source="stand-in", seeds=[0, 1, 2])


def test_the_expected_time_counts_a_shared_network_once(house):
    """Both rows of MROS's Table 3 test one network."""
    part = next(one for one in parts() if one.table.slug == "mros/table3")
    place = progress.PLACES["core"]
    assert len({run.network for run in part.missing}) == 3 < len(part.missing)
    first, second = part.missing[0], part.missing[3]
    pair = estimates.estimate(first, place).seconds + estimates.estimate(second, place, trains=False).seconds
    assert progress.seconds(part.missing, place) == pytest.approx(3 * pair)


def test_every_table_has_a_page():
    known = contents.names(paths.home())
    for slug, own in papers.tables().items():
        assert own.paper == STUDY or contents.page_of(slug, known, budget="small", source="stand-in"), slug


def test_addresses_are_relative_to_the_page():
    assert contents.address("book/data") == "../../../book/data.html"
    assert contents.address(glance.ARCHIVE) == "../../../_static/records.zip"
    assert contents.address("results/notebooks/stand-in/x/small/fmn/table1") == "../stand-in/x/small/fmn/table1.html"


def test_the_citation_is_that_of_the_file():
    text = str(glance.citation())
    assert "@software{reid," in text and "A reproducibility study of five person re-identification papers" in text


def test_the_frame_of_a_page():
    page = new_document("a page")
    page += nodes.paragraph("", "Short.")
    page += nodes.paragraph("", "word " * 100)
    assert len(frame.description(page)) <= frame.LONGEST and frame.description(page).endswith("word…")
    foot = frame.footer("x.html#cite")
    assert 'href="x.html#cite"' in foot and "MIT" in foot and re.search(r"Version \d", foot)
    assert isinstance(glance.citation().pieces[0].parts[-1], Link)
