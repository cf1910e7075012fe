"""The files of the domains, digests and manifests: what is read from them, and what is refused."""

import hashlib
import json
import subprocess
import sys

import pytest

from reidlib import standin
from reidlib.spec import ReidError
from reidlib.standin import DOMAINS, Variant, catalogue
from reidlib.standin.domain import Light, Sizes
from reidlib.standin.plan import plan

MARKET = catalogue.FOLDER / "market1501.toml"


def test_a_domain_is_what_its_file_says():
    market, msmt = DOMAINS["market1501"], DOMAINS["msmt17"]
    assert sorted(DOMAINS) == ["cuhk03", "dukemtmc", "market1501", "msmt17", "start"]
    assert (market.name, market.sequences, market.lights) == ("market1501", 6, (Light(),))
    assert isinstance(market.sizes, Sizes) and market.sizes.query_images == 3368
    first = market.cameras[0]
    assert (first.height, first.quality, first.walls[0].distance) == (2.7, (74, 84), 12.5)
    assert first.things[1].colour == (0.55, 0.46, 0.40) and first.ground.cell == (0.55, 0.55)
    assert market.palette.upper[0] == ("white", 26) and market.palette.colours[2] == ("light grey", (0.66, 0.66, 0.66))
    # Given by name, and `like` another camera but for what the file gives.
    assert [light.name for light in msmt.lights] == ["morning", "noon", "afternoon"]
    neon, bulbs = msmt.cameras[12], msmt.cameras[13]
    assert (neon.lamps.tint, bulbs.lamps.tint) == ((0.96, 1.04, 0.98), (1.2, 1.0, 0.72))
    assert (bulbs.height, bulbs.exposure) == (neon.height, 0.92)


def test_a_new_domain_is_a_new_file(tmp_path):
    path = tmp_path / "elsewhere.toml"
    path.write_text(MARKET.read_text(encoding="utf-8").replace("sequences = 6", "sequences = 5"), encoding="utf-8")
    elsewhere = catalogue.read_domain(path)
    assert (elsewhere.name, elsewhere.sequences) == ("elsewhere", 5)
    assert {spec.folder for spec in plan(elsewhere, 0.001, 0)} == set(DOMAINS["market1501"].layout.folders)


WRONG = [
    ('layout = "market1501"', 'layout = "market"', "layout is 'market'; known: market1501, people"),
    ('layout = "market1501"', "", "layout is None"),
    ("sequences = 6", "sequences = 6.0", "sequences is 6.0, not of the type int"),
    ("sequences = 6", "sequences = true", "sequences is True, not of the type int"),
    ("sequences = 6", "", "sequences is missing"),
    ("sequences = 6", "sequence = 6", "sequence is unknown; known: sizes, cameras"),
    ("tight_images = 25259", "", "sizes.tight_images is missing"),
    ("tight_images = 25259", "val_images = 2", "sizes.val_images is unknown; known: train_identities"),
    ("company = 0.1 ", 'company = "0.1" ', "rates.company is '0.1', not of the type float"),
    ("company = 0.1 ", "grain = 0.1 ", "rates.grain is unknown"),
    ('ground = "paving"', 'ground = "pavement"', "cameras[1].ground is 'pavement'; known: paving, asphalt"),
    ("walls = [{distance = 12.5, yaw = 8.0", "walls = [{yaw = 8.0", "cameras[1].walls[1].distance is missing"),
    ("[[cameras]]  # 2", "[[cameras]]\nlike = 2  # 2", "cameras[2].like is 2, not the number of an earlier camera"),
    ("cell = [0.55, 0.55]", "cell = [0.55]", "surfaces.paving.cell has 1 values, not 2"),
    ("cell = [0.55, 0.55]", "cell = 0.55", "surfaces.paving.cell is 0.55, not a list"),
    ("colour = [0.34, 0.42, 0.37]", 'colour = "green"', "things[1].colour is 'green'; known: none"),
    ('["white", 26]', '["white", "26"]', "palette.upper[1][2] is '26', not of the type float"),
    ('["white", 26]', '["whyte", 26]', "palette.upper is 'whyte'; known: white, cream"),
    ('["tee", 46]', '["t-shirt", 46]', "wardrobe.upper[1][1] is 't-shirt'; known: tee, sleeveless"),
    ('what = "bin"', 'what = "dustbin"', "cameras[1].things[1].what is 'dustbin'; known: box, bin"),
    ("sequences = 6", 'sequences = 6\noccluders = ["car"]', "occluders[1] is 'car'; known: bike, pole"),
    ("[rates]", "[rates", "cannot be read"),
]


@pytest.mark.parametrize("old, new, message", WRONG, ids=[message for *_, message in WRONG])
def test_a_wrong_file_is_refused_with_its_name_and_the_key(tmp_path, old, new, message):
    content = MARKET.read_text(encoding="utf-8")
    assert old in content
    path = tmp_path / "market1501.toml"
    path.write_text(content.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ReidError) as error:
        catalogue.read_domain(path)
    assert str(path) in str(error.value) and message in str(error.value) and "\n" not in str(error.value)


def test_the_digests_of_all_domains_and_variants_stand():
    """Committed records carry digests; a change of the reader or of a file must not move them."""
    changes = [
        Variant(),
        Variant("tight"),
        Variant("shift=0.2"),
        Variant(None, 0.5),
        Variant("detected", 0.0, 0.5, 1.0),
    ]
    digests = [
        standin.digest(name, scale=scale, seed=seed, variant=variant)
        for name in ("market1501", "dukemtmc", "cuhk03", "msmt17", "start")
        for scale, seed in ((0.005, 0), (0.05, 0), (0.05, 1), (1, 0))
        for variant in changes
    ]
    assert len(set(digests)) == len(digests)
    assert hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16] == "f50eb2520d91aa1d"


def test_digests_and_manifests_need_neither_torch_nor_pillow():
    code = (
        "import sys; from reidlib import standin; standin.digest('msmt17', scale=1, seed=0, variant=standin.Variant());"
        "standin.is_complete('.'); print(sorted({'torch', 'PIL', 'scipy', 'pandas', 'tqdm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


MANIFEST = {"name": "market1501", "version": standin.VERSION, "scale": 0.002, "seed": 3, "counts": {"query": 2}}
ODD = [
    ([], "is not a manifest of a stand-in"),
    ({"name": ["market1501"]}, 'has no valid name (["market1501"])'),
    ({"name": "imagenet"}, "names the unknown stand-in 'imagenet'"),
    ({"version": "2"}, 'has no valid version ("2")'),
    ({"scale": "0.002"}, 'has no valid scale ("0.002")'),
    ({"scale": None}, "has no valid scale (null)"),
    ({"seed": True}, "has no valid seed (true)"),
    ({"digest": 12}, "has no valid digest (12)"),
    ({"counts": {"query": "2"}}, 'has counts that are no numbers of images ({"query": "2"})'),
    ({"counts": {"query": 2.0}}, "has counts that are no numbers of images"),
    ({"counts": {"query": -1}}, "has counts that are no numbers of images"),
    ({"counts": [1, 2]}, "has counts that are no numbers of images ([1, 2])"),
]


@pytest.mark.parametrize("odd, message", ODD, ids=[message for _, message in ODD])
def test_a_manifest_with_odd_content_is_refused(tmp_path, odd, message):
    right = MANIFEST | {"digest": standin.digest("market1501", scale=0.002, seed=3)}
    (tmp_path / standin.MANIFEST).write_text(
        json.dumps(right | odd if isinstance(odd, dict) else odd), encoding="utf-8"
    )
    assert not standin.is_complete(tmp_path)
    with pytest.raises(ReidError) as error:
        standin.render("market1501", scale=0.002, seed=3, out=tmp_path, workers=1)
    for part in (str(tmp_path / standin.MANIFEST), message, f"delete the folder {tmp_path} or give another one"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
