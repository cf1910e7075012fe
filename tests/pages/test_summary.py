"""The results on the summary pages, and that each page shows those of its paper."""

import re
from dataclasses import replace

import made_up
import numpy as np
import pytest

from reidlib import papers, paths
from reidlib.pages import claims, contents, glance
from reidlib.runs.run import runs_of

PAPERS = sorted({table.paper for table in papers.tables().values()} - {"standins"})
RESULTS = re.compile(r"^```\{glue\} (\S+)\n:doc: \.\./\.\./results/notebooks/study/claims\.ipynb\n```$", re.MULTILINE)


def write(*, reverse: bool) -> None:
    """Three seeds of HAMR's Table 6: its full model finds all at once, the other rows at rank 3; or the reverse."""
    for run in runs_of("hamr/table6", budget="small", seeds=[0, 1, 2]):
        ranks = np.full(200, 1 if (run.row.label == "+ CAM") != reverse else 3)
        ranks[np.random.default_rng(run.seed).integers(0, 200, 5)] = 2
        made_up.write(run, made_up.arrays(ranks.tolist()))


@pytest.mark.parametrize("paper", PAPERS)
def test_a_summary_page_shows_the_results_of_its_paper(paper, house):
    page = (paths.home() / "book" / paper / "summary.md").read_text(encoding="utf-8")
    assert RESULTS.findall(page) == [glance.glued(paper)["scrapbook"]["name"]]
    assert f"book/{paper}/summary" in contents.names(paths.home())
    found = claims.decisions(paper, budget="small")
    assert str(glance.results(paper, found, "stand-in")) == (
        f"None of {len(papers.claims(paper))} claims has been decided on rendered images yet."
    )


@pytest.mark.parametrize(("reverse", "verdict", "sign"), [(False, "supported", "+"), (True, "contradicted", "−")])
def test_results_name_the_claim_of_the_whole_system(house, reverse, verdict, sign):
    write(reverse=reverse)
    found = claims.decisions("hamr", budget="small")
    said = str(glance.results("hamr", found, "stand-in"))
    words = r"Of (\d+) claims, (\d+) have been tested on rendered images: (\d+) supp\w+, (\d+) contr\w+, (\d+) und"
    counted = re.search(words, said)
    many, tested, *parts = map(int, counted.groups())
    assert many == len(papers.claims("hamr")) and tested == sum(parts) > 0
    assert f"(+ CAM against Baseline): {sign}" in said and said.endswith(f"3 seeds a side, {verdict}.")
    doubtful = [replace(one, verdict="undecided") if one.here else one for one in found]
    assert str(glance.results("hamr", doubtful, "stand-in")).endswith(
        "undecided, because the verdict is corrected for all claims of the paper."
    ), "its interval alone excludes zero"


def test_the_page_of_claims_has_them_under_those_names(house):
    cells = (paths.home() / "notebooks" / "study" / "claims.ipynb").read_text(encoding="utf-8")
    assert "display(glance.results(name, found, source), metadata=glance.glued(name))" in cells
