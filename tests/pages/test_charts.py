"""Charts have words for those who cannot see them, from the figure to the page."""

from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib.pyplot as plt
from docutils import nodes
from docutils.utils import new_document

from reidlib.book import frame
from reidlib.pages import figures


def test_the_page_has_the_words_of_its_chart(tmp_path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    left.plot([1, 2], [0, 1])
    left.set(title="here", xlabel="mAP (%)", yticks=[0, 1], yticklabels=["Baseline", "+ SAM & CAM"])
    right.set(xlabel="epoch", ylabel="loss")
    words = "Chart. here: mAP (%): Baseline, + SAM & CAM; loss over epoch"
    svg = figures.finished(figure)._repr_svg_()
    assert ElementTree.fromstring(svg).findtext("{http://www.w3.org/2000/svg}title") == words

    (tmp_path / "chart.svg").write_text(svg, encoding="utf-8")
    page = new_document("page")
    page += [nodes.image(uri="chart.svg"), nodes.image(uri="chart.svg", alt="own words"), nodes.image(uri="none.svg")]
    frame._charts(SimpleNamespace(srcdir=tmp_path), page)
    assert [image["classes"] for image in page.children] == [["wide"], ["wide"], []]
    assert [image.get("alt") for image in page.children] == [words, "own words", None]
