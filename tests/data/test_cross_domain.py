"""Cross-domain pairs on small folders: identities and cameras stay apart, paths lead to files, both digests count."""

import json

import numpy as np
import pytest
from PIL import Image

from reidlib.data import dukemtmc, market1501
from reidlib.data.cross_domain import PAIRS, join, load
from reidlib.data.images import decode
from reidlib.data.table import combined_digest, describe
from reidlib.spec import ReidError

MARKET = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0007_c6s3_077419_03.jpg"],
    "query": ["0001_c1s1_001051_00.jpg"],
    "bounding_box_test": ["-1_c1s1_000401_03.jpg", "0000_c5s1_000151_01.jpg", "0001_c6s1_009601_02.jpg"],
    "gt_bbox": ["0001_c1s1_001051_00.jpg"],
}
DUKE = {
    "bounding_box_train": ["0001_c2_f0046182.jpg", "0003_c8_f0051341.jpg"],
    "query": ["0002_c2_f0046985.jpg"],
    "bounding_box_test": ["0002_c5_f0051781.jpg", "0007_c1_f0044158.jpg"],
}


DIGESTS = {"market1501": "a" * 16, "dukemtmc": "d" * 16}


def build(root, folders, standin=None):
    """Every file is an image of one colour of its own."""
    for folder, names in folders.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            colour = [hash_ % 256 for hash_ in (len(str(root)), *name.encode()[:4])][:3]
            Image.fromarray(np.full((4, 2, 3), colour, dtype=np.uint8)).save(root / folder / name)
    if standin:
        counts = {folder: len(names) for folder, names in folders.items()}
        manifest = dict(name=standin, version=1, scale=0.05, seed=0, digest=DIGESTS[standin], counts=counts)
        (root / "standin.json").write_text(json.dumps(manifest))
    return root


@pytest.fixture
def sets(tmp_path):
    build(tmp_path / "Market-1501-v15.09.15", MARKET)
    build(tmp_path / "more" / "DukeMTMC-reID", DUKE)
    return tmp_path


def test_market_to_duke(sets):
    data = load("market-to-duke", sets)
    assert (data.name, data.source, data.root) == ("market-to-duke", "real", sets)
    market = "Market-1501-v15.09.15/bounding_box_train/"
    assert data.split("train").to_dict("list") == {
        "path": [market + name for name in MARKET["bounding_box_train"]],
        "identity": [2, 7], "camera": [1, 6], "split": ["train", "train"],
    }  # fmt: skip
    duke = "more/DukeMTMC-reID/"
    assert data.split("query").to_dict("list") == {
        "path": [duke + "query/0002_c2_f0046985.jpg"], "identity": [9], "camera": [8], "split": ["query"],
    }  # fmt: skip
    assert data.split("gallery")[["identity", "camera"]].to_numpy().tolist() == [[9, 11], [14, 7]]
    assert data.identities.tolist() == [2, 7]
    text = describe(data)
    assert "trained on market1501, tested on dukemtmc" in text and "withdrawn by its authors" in text
    assert "dukemtmc: gallery identities: 2 (expected 1,110)" in text


def test_junk_and_distractors_of_the_tested_set_stay_what_they_are(sets):
    data = load("duke-to-market", sets)
    assert data.split("gallery")["identity"].tolist() == [-1, 0, 4]  # 1 behind Duke's 3
    assert data.split("gallery")["camera"].tolist() == [9, 13, 14]
    assert data.split("multi-query")["identity"].tolist() == data.split("query")["identity"].tolist() == [4]
    assert not set(data.split("train")["camera"]) & set(data.split("gallery")["camera"])


def test_paths_lead_to_the_images_of_each_set(sets):
    data = load("market-to-duke", sets)
    alone = {name: loader(sets) for name, loader in (("market", market1501.load), ("duke", dukemtmc.load))}
    for split, part in (("train", alone["market"]), ("query", alone["duke"]), ("gallery", alone["duke"])):
        ours, theirs = (decode(one, one.split(split), size=(4, 2)) for one in (data, part))
        assert (ours == theirs).all() and len(ours)


def test_one_set_inside_the_folder_of_the_other(sets):
    (sets / "more" / "DukeMTMC-reID").rename(sets / "Market-1501-v15.09.15" / "DukeMTMC-reID")
    market = sets / "Market-1501-v15.09.15"
    data = join("pair", market1501.load(market), dukemtmc.load(market / "DukeMTMC-reID"))
    assert data.root == market and data.table["path"][0] == "bounding_box_train/0002_c1s1_000451_03.jpg"
    assert all((market / path).is_file() for path in data.table["path"])


def test_the_digest_is_made_of_both_in_their_order(sets):
    market, duke = market1501.load(sets), dukemtmc.load(sets)
    there, back = load("market-to-duke", sets), load("duke-to-market", sets)
    assert there.digest == combined_digest(market.digest, duke.digest) != back.digest
    assert len({there.digest, back.digest, market.digest, duke.digest}) == 4
    (sets / "more/DukeMTMC-reID/query/0002_c2_f0046985.jpg").write_bytes(b"another size")
    assert load("market-to-duke", sets).digest != there.digest


def test_both_are_looked_for_under_the_variable(sets, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(sets))
    assert load("market-to-duke").digest == load("market-to-duke", sets).digest


def test_every_ordered_pair_has_a_name():
    assert PAIRS["duke-to-market"] == ("dukemtmc", "market1501") and len(set(PAIRS.values())) == len(PAIRS) == 6
    with pytest.raises(ReidError, match="unknown pair of data sets 'duke-to-duke'; choose one of market-to-duke"):
        load("duke-to-duke")


def test_stand_in_and_real_never_mix(sets, tmp_path):
    market = market1501.load(build(tmp_path / "stand-in" / "market1501", MARKET, standin="market1501"))
    with pytest.raises(ReidError, match="pair: market1501 is stand-in and dukemtmc is real; their numbers never mix"):
        join("pair", market, dukemtmc.load(sets))
    duke = dukemtmc.load(build(tmp_path / "stand-in" / "dukemtmc", DUKE, standin="dukemtmc"))
    both = join("pair", market, duke)
    assert both.source == "stand-in" and both.digest == combined_digest(*DIGESTS.values())


def test_a_set_is_no_pair_with_itself(sets):
    with pytest.raises(
        ReidError, match="market1501 is both trained and tested; a cross-domain pair needs two data sets"
    ):
        join("pair", market1501.load(sets), market1501.load(sets))
