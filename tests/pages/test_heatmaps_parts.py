"""Shares of the parts: hand-built masks and maps, a slow loop, and what the sentences say."""

import numpy as np
import pytest
import torch

from reidlib.pages import part_shares
from reidlib.pages.part_shares import PARTS, measure, said, shares_table, summary
from reidlib.spec import ReidError
from reidlib.standin import parts

TRUNK, SHOES, BACKGROUND = (list(PARTS).index(name) for name in ("trunk", "shoes", "background"))


def test_the_parts_are_all_that_a_mask_can_hold():
    assert sorted(number for numbers in PARTS.values() for number in numbers) == list(range(len(parts.PART_NAMES)))


def test_shares_by_hand():
    """Two cells over 4 × 2 pixels. The upper: 2 of 4 pixels trunk; the lower: 1 of 4 shoe; values 1 and 3."""
    mask = torch.zeros(1, 4, 2, dtype=torch.uint8)
    mask[0, :2, 0], mask[0, 3, 1] = parts.TORSO, parts.SHOE
    found = measure(torch.tensor([[[1.0], [3.0]]]), mask)[0]
    assert found[TRUNK].tolist() == pytest.approx([25, 5, 5])  # half of 1 / (1 + 9)
    assert found[SHOES].tolist() == pytest.approx([12.5, 22.5, 22.5])
    assert found[BACKGROUND].tolist() == pytest.approx([62.5, 72.5, 72.5])
    assert np.isnan(found[list(PARTS).index("bags")]).all()


def test_shares_are_those_of_a_slow_loop():
    draw = torch.Generator().manual_seed(0)
    maps = torch.randn(5, 4, 2, generator=draw)
    masks = torch.randint(0, len(parts.PART_NAMES), (5, 16, 8), generator=draw).to(torch.uint8)
    found, normed = measure(maps, masks), maps.square() / maps.square().sum((1, 2), keepdim=True)
    for image in range(5):
        for place, numbers in enumerate(PARTS.values()):
            area = energy = by_place = 0.0
            for y in range(16):
                for x in range(8):
                    if int(masks[image, y, x]) in numbers:
                        area += 100 / 128
                        energy += 100 * float(normed[image, y // 4, x // 4]) / 16
                        by_place += 100 * float(normed[:, y // 4, x // 4].mean()) / 16
            assert found[image, place].tolist() == pytest.approx([area, energy, by_place], abs=1e-4)
    assert np.nansum(found, axis=1) == pytest.approx(100, abs=1e-3)
    with pytest.raises(ReidError, match="of the same images"):
        measure(maps[:2], masks)


def people(n: int = 8) -> torch.Tensor:
    """A trunk in the upper half at the left or right by turns; a shoe in the lowest row."""
    masks = torch.zeros(n, 8, 4, dtype=torch.uint8)
    for number, mask in enumerate(masks):
        mask[:4, 2 * (number % 2) : 2 * (number % 2) + 2] = parts.TORSO
        mask[7, number % 4] = parts.SHOE
    return masks


def test_a_map_without_preference_has_the_area_and_place_alone_is_told_from_seeing():
    masks = people()
    flat, seeing = torch.ones(8, 8, 4), (masks == parts.TORSO).float()
    upper = torch.zeros(8, 8, 4)
    upper[:, :4] = 1
    frame = summary({name: measure(maps, masks) for name, maps in (("flat", flat), ("sees", seeing), ("upper", upper))})
    lines = frame.set_index(["map", "part"])
    assert lines.loc[("flat", "trunk"), "energy"] == lines.loc[("flat", "trunk"), "area"] == 25
    assert lines.loc[("flat", "trunk"), "difference"].holds_zero and lines.loc[("flat", "trunk"), "spread"] == 0
    assert lines.loc[("sees", "trunk"), ["energy", "by_place"]].tolist() == [100, 50]
    assert lines.loc[("upper", "trunk"), ["energy", "by_place"]].tolist() == [50, 50]
    assert set(frame["images"]) == {8} and "bags" not in set(frame["part"])


def test_a_map_of_zeros_counts_for_nothing():
    maps = (people() == parts.TORSO).float()
    maps[0] = 0
    line = summary({"a": measure(maps, people())}).set_index("part").loc["trunk"]
    assert line["images"] == 7 and line["energy"] == 100


def test_sentences_and_table_come_from_the_numbers():
    masks = people()
    measured = {"sees": measure((masks == parts.TORSO).float(), masks), "flat": measure(torch.ones(8, 8, 4), masks)}
    text = str(said(measured, "sees"))
    assert text.startswith("sees against the share of the area: more energy on trunk (+75.0")
    assert "less energy on shoes" in text and "background" in text
    assert "no difference that can be told on trunk, shoes and background" in str(said(measured, "flat"))
    assert "sees against flat: more energy on trunk (+75.0" in str(said(measured, "sees", "flat"))
    view = shares_table(measured)
    assert view.texts()[0] == [part_shares.AREA, "25.0", "3.1", "71.9"] and view.texts()[1][1] == "100.0 ± 0.0"
    assert [cell.grey for cell in view.lines()[2][1:]] == [True] * 3 and "by place 50.0" in view.html()
    assert "only the stand-ins" in str(shares_table({})) and "only the stand-ins" in str(said({}, "sees"))
