"""The loop: exact resume, schedule, parameter groups, and stopping with a reason."""

import math
import os
from collections import OrderedDict

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from reidlib import losses, training
from reidlib.data.images import normalise, sent
from reidlib.models.output import Output
from reidlib.spec import FrozenStage, Loss, Recipe, ReidError, Settings
from reidlib.training import CHECKPOINT, PREVIOUS, WEIGHTS, TrainingImages, checkpoint, step

SIZE = (16, 8)


class Tiny(nn.Module):
    """Convolution, BatchNorm and dropout: all three kinds of state that a resume can lose."""

    def __init__(self, identities, *, size, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.3))
        self.classifier = nn.Linear(width, identities)

    def forward(self, images):
        pooled = self.body(images).mean((2, 3))
        return Output(embedding=pooled, logits=[self.classifier(pooled)], features=[pooled], maps={})


RECIPE = Recipe(
    start="scratch", size=SIZE, crop_scale=(0.64, 1.0), aspect_ratio=(1.0, 1.5), epochs=4, batch=8, rates={"rest": 0.1}
)


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (20, 3, *SIZE), dtype=torch.uint8, generator=generator)
    return TrainingImages(images, torch.arange(20) % 4, [f"image-{i:02}.jpg" for i in range(20)])


LOSSES = {"cross_entropy": Loss(losses.cross_entropy)}
METRIC = {
    "triplet": Loss(losses.triplet, options=dict(margin=0.3)),
    "centre": Loss(losses.Centre, weight=0.01, options=dict(rate=0.5)),
}


def run(data, folder, *, recipe=RECIPE, seed=0, terms=LOSSES, **options):
    lines = []
    settings = Settings(model=Tiny, recipe=recipe, losses=terms)
    trained = training.train(settings, data, seed=seed, folder=folder, log=lines.append, checkpoint_every=0, **options)
    return trained, lines


def weights(trained):
    return torch.cat([tensor.flatten().double() for tensor in trained.model.state_dict().values()])


class Interrupted(Exception):
    pass


def stop_after(epochs):
    def stop(point):
        if point["epoch"] == epochs:
            raise Interrupted

    return stop


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize(
    "changes, terms",
    [
        ({}, LOSSES),
        (dict(schedule="cosine", warmup=0.3, nesterov=True, precision="fp32"), LOSSES),
        (dict(optimiser="adam", rates={"rest": 0.01}, pad=2, erasing=0.5), LOSSES),
        (dict(per_identity=4, warmup_epochs=2, fresh_momentum=True), LOSSES | METRIC),
    ],
)
def test_interrupted_equals_uninterrupted_bit_for_bit(tmp_path, data, epochs, changes, terms):
    recipe = RECIPE.but(**changes)
    whole, _ = run(data, tmp_path / "whole", recipe=recipe, terms=terms)
    with pytest.raises(Interrupted):
        run(data, tmp_path / "cut", recipe=recipe, terms=terms, on_epoch=stop_after(epochs))
    torch.rand(7)  # whatever the process draws in between must not matter
    resumed, lines = run(data, tmp_path / "cut", recipe=recipe, terms=terms)
    assert lines[0].startswith(f"resuming after epoch {epochs} of 4")
    assert torch.equal(weights(whole), weights(resumed))
    assert [p["loss"] for p in whole.curve] == [p["loss"] for p in resumed.curve]
    left = [load_file(tmp_path / name / WEIGHTS) for name in ("whole", "cut")]
    assert left[0].keys() == left[1].keys() and all(torch.equal(left[0][name], left[1][name]) for name in left[0])


def test_seeds_decide_everything(tmp_path, data):
    first, _ = run(data, tmp_path / "a", seed=0)
    torch.rand(5)
    same, _ = run(data, tmp_path / "b", seed=0)
    other, _ = run(data, tmp_path / "c", seed=1)
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


def test_it_learns_what_can_be_learnt(tmp_path):
    labels = torch.arange(32) % 4
    images = (labels * 60 + 30)[:, None, None, None].expand(-1, 3, *SIZE).to(torch.uint8).contiguous()
    easy = TrainingImages(images, labels, [str(i) for i in range(32)])
    trained, _ = run(easy, tmp_path, recipe=RECIPE.but(epochs=30, precision="fp32"))
    assert trained.curve[-1]["loss"] < 0.7 * trained.curve[0]["loss"]
    with torch.inference_mode():
        assert (trained.model(normalise(images)).logits[0].argmax(1) == labels).all()


@pytest.mark.parametrize(
    "change",
    [
        dict(flip=0.0),
        dict(crop_scale=(1.0, 1.0)),
        dict(momentum=0.0),
        dict(weight_decay=0.1),
        dict(batch=4),
        dict(per_identity=2),
        dict(optimiser="adam"),
        dict(warmup_epochs=2),
        dict(fresh_momentum=True),
        dict(pad=2),
        dict(erasing=0.5),
    ],
)
def test_each_recipe_switch_changes_the_weights(tmp_path, data, change):
    before, _ = run(data, tmp_path / "before")
    after, _ = run(data, tmp_path / "after", recipe=RECIPE.but(**change))
    assert not torch.equal(weights(before), weights(after))


def test_one_log_line_and_one_event_an_epoch(tmp_path, data):
    events = []
    trained, lines = run(data, tmp_path, on_epoch=events.append)
    assert len(lines) == 4
    assert all("ETA" in line and f"epoch {i}/4" in line for i, line in enumerate(lines, 1))
    for i, (event, point) in enumerate(zip(events, trained.curve, strict=True), 1):
        assert event.items() >= point.items() and (event["epoch"], event["epochs"]) == (i, 4)
        assert event["images_per_second"] == point["images"] / point["seconds"]
        mean = sum(p["seconds"] for p in trained.curve[:i]) / i
        assert event["eta"] == pytest.approx((4 - i) * mean)
    assert "epochs" not in trained.curve[0], "the curve of the record stays as it was"


def test_the_number_of_threads_is_in_the_checkpoint_and_with_the_weights(tmp_path, data):
    assert training.checkpoint_threads(tmp_path) is None
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(Interrupted):
            run(data, tmp_path, on_epoch=stop_after(2))
        torch.set_num_threads(1)
        assert training.checkpoint_threads(tmp_path) == 3
        (tmp_path / CHECKPOINT).write_bytes(b"")
        assert training.checkpoint_threads(tmp_path) == 3, "of the checkpoint before it"
        torch.set_num_threads(2)
        run(data, tmp_path)
        assert training.checkpoint_threads(tmp_path) == 2, "of the finished weights"
    finally:
        torch.set_num_threads(before)


def test_schedules_against_their_formulas():
    recipe = RECIPE.but(epochs=10, schedule="step", milestones=(4, 8), decay=0.1)
    factors = [training.rate_factor(recipe, step, 5) for step in range(50)]
    assert factors == pytest.approx([1.0] * 20 + [0.1] * 20 + [0.01] * 10)
    recipe = RECIPE.but(epochs=10, schedule="cosine", warmup=0.2)
    factors = [training.rate_factor(recipe, step, 5) for step in range(50)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10:] == pytest.approx([(1 + math.cos(math.pi * step / 40)) / 2 for step in range(40)])
    assert set(training.rate_factor(RECIPE, step, 5) for step in range(20)) == {1.0}


def test_a_warm_up_in_epochs_goes_before_the_schedule():
    """Linear by epoch, constant inside one; HAMR's eq. (5) is 3e-4 · e/10 for ten epochs on a rate of 0.01."""
    recipe = RECIPE.but(epochs=12, schedule="step", milestones=(11,), warmup_epochs=10, warmup_to=0.03)
    factors = [training.rate_factor(recipe, step, 2) for step in range(24)]
    assert factors == pytest.approx([0.003 * epoch for epoch in range(1, 11) for _ in range(2)] + [1.0] * 2 + [0.1] * 2)
    recipe = RECIPE.but(warmup_epochs=2, warmup_from=0.01)
    assert [training.rate_factor(recipe, step, 1) for step in range(3)] == pytest.approx([0.505, 1.0, 1.0])


def test_parameter_groups_hold_every_weight_once():
    model = Tiny(4, size=SIZE)
    groups = training.parameter_groups(model, {"body": 0.01, "rest": 0.001})
    held = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(held) == sorted(id(weight) for weight in model.parameters())
    assert [group["lr"] for group in groups] == [0.01, 0.001]
    assert {id(w) for w in groups[0]["params"]} == {id(w) for w in model.body.parameters()}
    with pytest.raises(ReidError, match="backbone.*Tiny has the submodules body, classifier"):
        training.parameter_groups(model, {"backbone": 0.01, "rest": 0.001})


def test_a_rate_may_be_given_by_a_pattern_of_the_weights_names():
    """The first name that fits a weight has it; frozen weights are in no group."""
    model = nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 4, 1), bn1=nn.BatchNorm2d(4), classifier=nn.Linear(4, 2)))
    model.stem.bias.requires_grad_(False)
    groups = training.parameter_groups(model, {"*.weight": 0.1, "bn1": 0.2, "rest": 0.3})
    assert [[id(weight) for weight in group["params"]] for group in groups] == [
        [id(model.stem.weight), id(model.bn1.weight), id(model.classifier.weight)],
        [id(model.bn1.bias)],
        [id(model.classifier.bias)],
    ]
    with pytest.raises(ReidError, match=r"rate for '\*\.scale': Sequential has the submodules stem, bn1, classifier"):
        training.parameter_groups(model, {"*.scale": 0.1, "rest": 0.1})


def test_a_loss_that_is_not_finite_stops_with_loss_batch_and_files(tmp_path, data):
    with pytest.raises(ReidError, match=r"'cross_entropy' is nan in epoch \d, batch \d \(8 images: image-\d\d\.jpg"):
        run(data, tmp_path, recipe=RECIPE.but(rates={"rest": 1e30}, precision="fp32", epochs=6))


class Pair(nn.Module):
    """A network that looks at one trained before it."""

    def __init__(self, identities, *, size):
        super().__init__()
        self.before, self.after = Tiny(identities, size=size), Tiny(identities, size=size)

    def forward(self, images):
        reference, ours = self.before(images), self.after(images)
        both = torch.cat([reference.embedding, ours.embedding], dim=1)
        return Output(both, ours.logits, ours.features, {}, reference=reference.logits[0])


def test_a_network_trained_before_is_taken_over_and_stays_to_the_bit(tmp_path, data):
    first, _ = run(data, tmp_path / "first")
    before = weights(first)
    settings = Settings(Pair, RECIPE, LOSSES, first=FrozenStage(Settings(Tiny, RECIPE, LOSSES), into="before"))
    with pytest.raises(ValueError, match="Pair continues from a trained before"):
        training.build(settings, 4, 0)
    trained = training.train(settings, data, seed=0, folder=tmp_path / "pair", first=first.model, log=lambda line: None)
    kept = torch.cat([tensor.flatten().double() for tensor in trained.model.before.state_dict().values()])
    assert torch.equal(kept, before), "frozen weights and BatchNorm statistics"
    drawn, _ = training.build(settings, 4, 0, first.model)
    assert not torch.equal(drawn.after.classifier.weight, trained.model.after.classifier.weight)


def test_the_centres_of_a_loss_move_and_are_kept_in_the_checkpoint(tmp_path, data):
    with pytest.raises(Interrupted):
        run(data, tmp_path, recipe=RECIPE.but(per_identity=4), terms=LOSSES | METRIC, on_epoch=stop_after(1))
    centres = load_file(tmp_path / CHECKPOINT)["criterion.stateful.centre.centres.0"]
    drawn = losses.Centre(4, [8], rate=0.5).centres[0]
    assert centres.shape == (4, 8) and (centres != drawn).all()


def test_no_epochs_leave_the_network_as_it_was_drawn(tmp_path, data):
    trained, lines = run(data, tmp_path, recipe=RECIPE.but(epochs=0), terms={})
    drawn, _ = training.build(Settings(Tiny, RECIPE, LOSSES), 4, 0)
    assert all(torch.equal(a, b) for a, b in zip(trained.model.parameters(), drawn.parameters(), strict=True))
    assert (trained.curve, trained.images_per_second, trained.model.training, lines) == ([], 0.0, False, [])


def test_a_batch_without_triplets_stops_before_its_step(tmp_path, data, monkeypatch):
    stepped = []
    monkeypatch.setattr(training.Loop, "step", lambda *arguments: stepped.append(arguments))
    with pytest.raises(ReidError, match="has one in this batch of 4: set per_identity to 2 or more"):
        run(data, tmp_path, recipe=RECIPE.but(per_identity=1, batch=4), terms=LOSSES | METRIC)
    assert not stepped


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_is_not_waited_for_in_a_step(data):
    recipe = RECIPE.but(per_identity=4, pad=2, erasing=0.5)
    settings, device = Settings(Tiny, recipe, LOSSES | METRIC), torch.device("cuda")
    model, _ = training.build(settings, 4, 0)
    loop = training.Loop.of(settings, model.to(device), 4)
    loop.train_mode()
    images, generator = data.images[:8].to(device), torch.Generator().manual_seed(0)
    for mode in ("default", "error"):  # the first step loads libraries and lays the constants down
        torch.cuda.set_sync_debug_mode(mode)
        try:
            augmented = step.augmented(images, loop.recipe, generator)
            loop.step(augmented, sent(torch.arange(8) // 4, device))
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_batch_larger_than_the_set_is_named(tmp_path, data):
    with pytest.raises(ReidError, match="20 training images do not fill one batch of 64"):
        run(data, tmp_path, recipe=RECIPE.but(batch=64))


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("epochs, damaged, left", [(1, 1, 0), (2, 1, 1), (3, 2, 0)])
def test_a_checkpoint_cut_short_is_set_aside_and_the_one_before_it_is_used(tmp_path, data, epochs, damaged, left):
    with pytest.raises(Interrupted):
        run(data, tmp_path, on_epoch=stop_after(epochs))
    for name in (CHECKPOINT, PREVIOUS)[:damaged]:
        cut(tmp_path / name)
    whole, _ = run(data, tmp_path / "whole")
    again, lines = run(data, tmp_path)
    aside = [line for line in lines if "cut short or foreign" in line]
    assert len(aside) == damaged and "set aside as checkpoint.corrupt" in aside[0]
    assert (tmp_path / "checkpoint.corrupt").is_file()
    assert [line for line in lines if line.startswith("resuming")] == [
        f"resuming after epoch {left} of 4 from {tmp_path / PREVIOUS}"
    ] * bool(left)
    assert torch.equal(weights(whole), weights(again))


def test_another_user_may_read_a_checkpoint_as_the_umask_says(tmp_path, data):
    """safetensors makes files that nobody else may read, whatever the umask."""
    before = os.umask(0o002)
    try:
        run(data, tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / WEIGHTS).stat().st_mode & 0o777 == 0o664


def test_a_checkpoint_that_may_not_be_read_is_not_set_aside_as_damaged(tmp_path, data, monkeypatch):
    with pytest.raises(Interrupted):
        run(data, tmp_path, on_epoch=stop_after(1))
    monkeypatch.setattr(os, "access", lambda *given: False)
    with pytest.raises(ReidError, match="checkpoint.safetensors: cannot be read .Permission.*or set REID_CACHE to"):
        run(data, tmp_path)
    assert (tmp_path / CHECKPOINT).is_file()


def test_a_process_that_dies_between_the_two_moves_of_a_checkpoint_loses_nothing(tmp_path, data):
    with pytest.raises(Interrupted):
        run(data, tmp_path, on_epoch=stop_after(2))
    (tmp_path / CHECKPOINT).replace(tmp_path / PREVIOUS)
    whole, _ = run(data, tmp_path / "whole")
    again, lines = run(data, tmp_path)
    assert lines[0].startswith("resuming after epoch 2 of 4")
    assert torch.equal(weights(whole), weights(again))


def test_a_checkpoint_of_another_network_touches_nothing(tmp_path, data):
    with pytest.raises(Interrupted):
        run(data, tmp_path, on_epoch=stop_after(1))
    tensors = load_file(tmp_path / CHECKPOINT)
    with safe_open(tmp_path / CHECKPOINT, framework="pt") as stored:
        metadata = stored.metadata()
    name = next(name for name in reversed(tensors) if name.startswith("model.") and tensors[name].ndim)
    tensors[name] = torch.zeros(*tensors[name].shape, 2)
    del metadata["sha256"]  # as checkpoints were before they had a digest
    save_file(tensors, tmp_path / CHECKPOINT, metadata=metadata)
    whole, _ = run(data, tmp_path / "whole")
    again, lines = run(data, tmp_path)
    assert "another network's" in lines[0]
    assert torch.equal(weights(whole), weights(again))


def test_a_checkpoint_or_weights_with_one_changed_byte_are_not_used(tmp_path, data):
    """safetensors has no checksum of its own, so another weight would be trained on without a word."""
    with pytest.raises(Interrupted):
        run(data, tmp_path, on_epoch=stop_after(1))
    content = bytearray((tmp_path / CHECKPOINT).read_bytes())
    content[-1] ^= 1
    (tmp_path / CHECKPOINT).write_bytes(content)
    whole, _ = run(data, tmp_path / "whole")
    again, lines = run(data, tmp_path)
    assert "its content has changed since it was written" in lines[0]
    assert torch.equal(weights(whole), weights(again))
    file = tmp_path / WEIGHTS
    assert checkpoint.finished(file, again.model) == (again.curve, "eager", "")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert checkpoint.finished(file, again.model) is None


def test_the_batch_that_fits_is_found_by_halves(tmp_path, data, monkeypatch):
    tried = []

    def tried_step(settings, identities, device, first, batch):
        tried.append(batch)
        if batch > 8:
            raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(step, "_one_step", tried_step)
    settings = Settings(Tiny, RECIPE.but(batch=48, per_identity=4), LOSSES)
    assert training.batch_that_fits(settings, 4, torch.device("cpu")) == 8
    assert tried == [24, 12, 8]  # two identities of four images are the least that makes triplets
    monkeypatch.undo()
    small = Settings(Tiny, RECIPE.but(batch=8, per_identity=2), LOSSES | METRIC)
    assert training.batch_that_fits(small, 4, torch.device("cpu")) == 4, "a real step of half the batch"


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path, data, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.safetensors.torch, "save_file", full)
    with pytest.raises(ReidError, match="cannot be written.*No space left"):
        run(data, tmp_path)


def test_a_finished_network_is_not_trained_twice(tmp_path, data):
    first, _ = run(data, tmp_path)
    before = (tmp_path / WEIGHTS).stat().st_mtime_ns
    again, lines = run(data, tmp_path)
    assert lines == [f"trained already: {tmp_path / WEIGHTS}"]
    assert (tmp_path / WEIGHTS).stat().st_mtime_ns == before
    assert (again.curve, again.start, again.model.training) == (first.curve, first.start, False)
    assert torch.equal(weights(first), weights(again))


def test_weights_cut_short_are_trained_again(tmp_path, data):
    first, _ = run(data, tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    for name in (CHECKPOINT, PREVIOUS):
        (tmp_path / name).unlink()
    (tmp_path / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    again, lines = run(data, tmp_path)
    assert any(line.startswith("epoch 1/") for line in lines)
    assert torch.equal(weights(first), weights(again))
