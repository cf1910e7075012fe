"""Where networks start: ImageNet weights, the study's own start, or scratch; and the file of the start."""

import shutil

import made_up
import pytest
import torch
from safetensors.torch import load_file

from reidlib import paths, training
from reidlib.cli import main
from reidlib.models import backbone
from reidlib.models.backbone import Backbone, start_of
from reidlib.models.ide import IDE
from reidlib.papers import standins
from reidlib.runs.run import runs_of
from reidlib.spec import ReidError, Row


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A checkout without a start, on a machine without ImageNet weights."""
    folder = tmp_path / "home"
    (folder / "results").mkdir(parents=True)
    for name in ("reported.tsv", "claims.tsv", "not-retrained.tsv"):
        shutil.copy(paths.home() / "results" / name, folder / "results")
    monkeypatch.setenv("REID_HOME", str(folder))
    monkeypatch.setattr(backbone, "imagenet_file", lambda depth: None)
    return folder


@pytest.fixture
def start(home):
    """A start with weights that no initialisation draws."""
    torch.manual_seed(5)
    weights = {name: tensor + 0.25 if tensor.is_floating_point() else tensor for name, tensor in fresh().items()}
    return backbone.write_start(weights, backbone.start_file())


def fresh():
    return Backbone().state_dict()


def test_a_folder_without_weights_is_no_reason_to_start_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_WEIGHTS", str(tmp_path))
    (tmp_path / "resnet50-11ad3fa6.pth").write_bytes(b"another version of torchvision's weights")
    with pytest.raises(ReidError, match=f"REID_WEIGHTS={tmp_path} holds none of resnet50-0676ba61.pth, .*; give"):
        start_of("imagenet")
    (tmp_path / "resnet101-63fe2227.pth").write_bytes(b"x")
    assert start_of("imagenet", 101).kind == "imagenet"


def test_the_order_of_the_starts(start, tmp_path, monkeypatch):
    assert start_of("scratch") == backbone.Start("scratch")
    assert start_of("start").digest == start_of("imagenet").digest == start and len(start) == 16
    assert start_of("start", 101).kind == start_of("imagenet", 101).kind == "scratch", "there is no deeper start"
    weights = tmp_path / "imagenet.pth"
    weights.write_bytes(b"photographs")
    monkeypatch.setattr(backbone, "imagenet_file", lambda depth: weights)
    assert start_of("imagenet").kind == "imagenet" and start_of("start").kind == "start"


def test_without_a_start_keys_are_known_and_training_says_how_to_make_it(home):
    assert start_of("imagenet").kind == "scratch"
    run = runs_of("standins/difficulty", budget="small", rows=[standins.STARTED])[0]
    assert run.made_from(run.settings)["start_digest"] == backbone.MISSING and run.key
    with pytest.raises(ReidError, match="resnet50.sha256: missing.*reid train standins/start --budget small"):
        training.build(run.settings, 4, 0)


def test_a_digest_without_its_file_is_enough_for_keys_alone(start):
    run = runs_of("standins/difficulty", budget="small", rows=[standins.STARTED])[0]
    key = run.key
    backbone.start_file().unlink()
    again = runs_of("standins/difficulty", budget="small", rows=[standins.STARTED])[0]
    assert again.key == key and again.made_from(again.settings)["start_digest"] == start
    with pytest.raises(ReidError, match="resnet50.safetensors: missing"):
        training.build(run.settings, 4, 0)


def test_a_network_starts_from_it_in_float32_and_another_file_is_refused(start):
    settings = standins.DIFFICULTY.settings(Row("base"), "small")
    model, kind = training.build(settings, 4, 0)
    stored = load_file(backbone.start_file())
    assert kind == "start" and {tensor.dtype for tensor in stored.values()} == {torch.float16, torch.int64}
    own = model.backbone.state_dict()
    assert all(own[name].dtype != torch.float16 for name in own)
    assert all(torch.equal(own[name], tensor.to(own[name].dtype)) for name, tensor in stored.items())
    part = backbone.Backbone(50, last_stride=1, last=2)
    part.load_weights(backbone.start_file())
    assert all(torch.equal(tensor, own[name]) for name, tensor in part.state_dict().items())
    backbone.start_file().with_suffix(".sha256").write_text("0" * 16)
    with pytest.raises(ReidError, match="its digest is"):
        training.build(settings, 4, 0)


def test_smoke_starts_from_scratch_and_the_start_itself_too(start):
    for slug, budget in (("standins/start", "small"), ("safenet/table5", "smoke"), ("hamr/table6", "smoke")):
        run = runs_of(slug, budget=budget)[0]
        assert run.made_from(run.settings)["start_digest"] == "", slug
    for slug in ("safenet/table5", "mros/table1", "msgwdp/table2", "fmn/table5", "hamr/table6"):
        for budget in ("small", "medium", "full"):
            run = runs_of(slug, budget=budget)[0]
            assert run.made_from(run.settings)["start_digest"] == start, (slug, budget)


def test_what_half_precision_cannot_hold_is_not_written(tmp_path):
    state = fresh()
    state["stem.1.running_var"] += 1e6
    with pytest.raises(ReidError, match="cannot hold stem.1.running_var"):
        backbone.write_start(state, tmp_path / "start.safetensors")
    with pytest.raises(ReidError, match="no ResNet-50"):
        backbone.write_start(IDE(3).state_dict(), tmp_path / "start.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_rows_from_scratch_differ_in_their_start_alone():
    runs = {(run.row.label, run.row.variant): run for run in runs_of("standins/from-scratch", budget="small")}
    labels = {label for label, _ in runs}
    assert len(labels) == 10
    for label in labels:
        started, scratch = (runs[label, variant] for variant in ("as-published", standins.SCRATCH))
        ours, theirs = started.settings.trained(), scratch.settings.trained()
        assert (ours["recipe"].pop("start"), theirs["recipe"].pop("start")) == ("start", "scratch")
        for first in (part["first"] for part in (ours, theirs) if "first" in part):
            first["recipe"].pop("start")
        assert ours == theirs
        slug, _, own = label.partition(": ")
        assert started.network == runs_of(slug, budget="small", rows=[own])[0].network, "trained once for both tables"


def test_the_rows_with_half_the_epochs_differ_in_their_epochs_alone():
    runs = {(run.row.label, run.row.variant): run for run in runs_of("standins/shorter", budget="small")}
    labels = {label for label, _ in runs}
    assert len(labels) == 5
    for label in labels:
        whole, half = (runs[label, variant].settings.trained() for variant in ("as-published", standins.HALF))
        while whole:
            epochs, less = (part["recipe"].pop("epochs") for part in (whole, half))
            assert less == epochs // 2
            ours, theirs = (part.pop("first", None) for part in (whole, half))
            assert whole == half
            whole, half = ours, theirs


def test_a_finished_run_is_exported_as_a_start(home, tmp_path, monkeypatch, capsys):
    for name in ("REID_CACHE", "REID_RESULTS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    (home / "notebooks").mkdir()
    run = runs_of("standins/start", budget="small")[0]
    record = made_up.write(run)
    assert main(["export", record.key]) == 1 and "no weights of record" in capsys.readouterr().err
    network = IDE(4)
    run.work_folder.mkdir(parents=True)
    training.checkpoint.write_tensors(run.work_folder / training.WEIGHTS, network.state_dict(), {"curve": "[]"})
    assert main(["export", record.key[:8]]) == 0
    assert start_of("start").digest in capsys.readouterr().out
    loaded = Backbone()
    loaded.load_weights(backbone.start_file())
    ours, theirs = loaded.state_dict(), network.backbone.state_dict()
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-3) for name in theirs)
