"""The step as a graph: its loop against one written out by hand, and what makes a run go on eagerly."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from reidlib import losses, papers, training
from reidlib.data.images import sent
from reidlib.models.hamr import drop_block
from reidlib.models.output import Output
from reidlib.spec import Loss, Recipe, ReidError, Settings
from reidlib.training import TrainingImages, graph, loop, step

SIZE = (16, 8)
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


class Banded(nn.Module):
    """Convolution, BatchNorm, dropout and a band of rows that is left out: all that a step may draw or keep."""

    drawn = None

    def __init__(self, identities, *, size):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3)
        )
        self.classifier = nn.Linear(8, identities)

    def draw(self):
        return torch.randint(12, ())

    def forward(self, images):
        top = self.drawn if self.drawn is not None else self.draw()
        pooled = drop_block(self.body(images), 0.3 if self.training else 0.0, top.to(images.device)).mean((2, 3))
        return Output(embedding=pooled, logits=[self.classifier(pooled)], features=[pooled], maps={})


RECIPE = Recipe(
    start="scratch", size=SIZE, crop_scale=(0.64, 1.0), aspect_ratio=(1.0, 1.5), epochs=3, batch=8, per_identity=4,
    rates={"body": 0.1, "rest": 0.02}, schedule="step", milestones=(2,), precision="fp32",
)  # fmt: skip
LOSSES = {
    "cross_entropy": Loss(losses.cross_entropy),
    "triplet": Loss(losses.triplet, options=dict(margin=0.3)),
    "centre": Loss(losses.Centre, weight=0.01, options=dict(rate=0.5)),
}
CHANGES = [{}, dict(nesterov=True, momentum=0.8, fresh_momentum=True), dict(optimiser="adam", weight_decay=0.01)]


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (20, 3, *SIZE), dtype=torch.uint8, generator=generator)
    return TrainingImages(images, torch.arange(20) % 4, [f"image-{i:02}.jpg" for i in range(20)])


def repeated(compute):
    """In place of a CUDA graph: computes again, from the same tensors into the same tensors."""
    terms, hits = compute()

    def replay():
        again, count = compute()
        for name, value in again.items():
            terms[name].copy_(value)
        hits.copy_(count)

    return replay, (terms, hits)


@pytest.fixture
def recording(monkeypatch):
    """Steps on a CPU count as recorded."""
    monkeypatch.setattr(graph, "DEVICES", ("cpu", "cuda"))
    monkeypatch.setattr(graph, "record", repeated)


def run(data, folder, changes=None, **options):
    lines = []
    settings = Settings(Banded, RECIPE.but(**changes or {}), LOSSES)
    how = dict(seed=0, folder=folder, log=lines.append, checkpoint_every=0)
    return training.train(settings, data, **how, **options), lines


def numbers(trained):
    return torch.cat([tensor.flatten().double() for tensor in trained.model.state_dict().values()])


def without_seconds(curve):
    return [{name: value for name, value in point.items() if name != "seconds"} for point in curve]


def by_hand(data, settings, seed):
    """The training of a network in plain steps; returns network and centres."""
    recipe = settings.recipe
    model, _ = training.build(settings, 4, seed)
    model = model.to(memory_format=torch.channels_last)
    centres = losses.Centre(4, [8], rate=0.5)
    state = {}
    count = 0
    for epoch in range(recipe.epochs):
        torch.manual_seed(loop.epoch_seed(seed, epoch))
        generator = torch.Generator().manual_seed(loop.epoch_seed(seed, epoch))
        batches = loop.identity_batches(data.labels, 8, 4, generator)
        if recipe.resolved()["fresh_momentum"]:
            state = {}
        count = 0 if not state else count
        for chosen in batches:
            images = step.augmented(data.images[chosen], recipe, generator)
            labels = data.labels[chosen]
            model.train()
            output = model(images.contiguous(memory_format=torch.channels_last))
            softmax = losses.cross_entropy(output, labels)
            triplet = losses.triplet(output, labels, margin=0.3)
            centre = centres(output, labels)
            moving = [*model.parameters()]
            gradients = torch.autograd.grad(softmax + triplet + 0.01 * centre, moving, retain_graph=True)
            moved = torch.autograd.grad(centre, centres.centres[0])[0]
            count += 1
            with torch.no_grad():
                for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
                    rate = (0.1 if name.startswith("body") else 0.02) * (0.1 if epoch >= 2 else 1.0)
                    gradient = gradient + recipe.resolved()["weight_decay"] * weight
                    if recipe.resolved()["optimiser"] == "adam":
                        mean, square = state.get(name, (0.0, 0.0))
                        state[name] = mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
                        weight -= rate * (mean / (1 - 0.9**count)) / ((square / (1 - 0.999**count)).sqrt() + 1e-8)
                        continue
                    momentum = recipe.resolved()["momentum"]
                    state[name] = momentum * state.get(name, 0.0) + gradient
                    nesterov = recipe.resolved()["nesterov"]
                    weight -= rate * (gradient + momentum * state[name] if nesterov else state[name])
                centres.centres[0] -= 0.5 * moved
    return model, centres


@pytest.mark.parametrize("changes", CHANGES)
def test_a_recorded_training_equals_an_eager_one_and_one_by_hand(tmp_path, data, changes, request):
    eager, _ = run(data, tmp_path / "eager", changes)
    assert (eager.step, eager.why) == ("eager", "")
    request.getfixturevalue("recording")
    recorded, lines = run(data, tmp_path / "graph", changes)
    assert (recorded.step, recorded.why, lines[0]) == ("cuda graph", "", "the step is a CUDA graph")
    assert torch.equal(numbers(recorded), numbers(eager)), "on a CPU to the bit"
    assert without_seconds(recorded.curve) == without_seconds(eager.curve)
    model, _ = by_hand(data, Settings(Banded, RECIPE.but(**changes), LOSSES), 0)
    for ours, theirs in zip(recorded.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5), "rates, momentum, bands and dropout of every step"


@pytest.mark.parametrize("changes", CHANGES)
def test_a_recorded_training_is_resumed_as_an_eager_one(tmp_path, data, changes, recording):
    class Interrupted(Exception):
        pass

    def stop(point):
        raise Interrupted

    whole, _ = run(data, tmp_path / "whole", changes)
    with pytest.raises(Interrupted):
        run(data, tmp_path / "cut", changes, on_epoch=stop)
    resumed, lines = run(data, tmp_path / "cut", changes)
    assert lines[0].startswith("resuming after epoch 1 of 3")
    assert torch.equal(numbers(whole), numbers(resumed))
    again, lines = run(data, tmp_path / "cut", changes)
    assert lines == [f"trained already: {tmp_path / 'cut' / training.WEIGHTS}"]
    assert (again.step, again.why) == ("cuda graph", "")


def broken(fault):
    def record(compute):
        compute()
        raise fault

    return record


def wrong(change):
    """A graph that does not do what the step does."""

    def record(compute):
        replay, written = repeated(compute)
        own = compute.__closure__[0].cell_contents  # the loop that is recorded

        def replay_wrongly():
            replay()
            with torch.no_grad():
                change(own, written)

        return replay_wrongly, written

    return record


def first_weight(own, written):
    next(own.model.parameters()).mul_(1.01)


def loss(own, written):
    written[0]["triplet"].add_(1.0)


def gradient(own, written):
    own.model.classifier.weight.grad.mul_(-1.0)


def statistics(own, written):
    own.model.body[1].running_mean.add_(1.0)


def nothing_finite(own, written):
    written[0]["cross_entropy"].mul_(float("nan"))


def no_hits(own, written):
    written[1].fill_(100)


WRONG = [
    (broken(RuntimeError("operation not permitted when stream is capturing\nCUDA")), "cannot be recorded (operation"),
    (broken(torch.OutOfMemoryError("CUDA out of memory")), "cannot be recorded (CUDA out of memory)"),
    (broken(KeyError()), "cannot be recorded (KeyError)"),
    (broken(RuntimeError("\tan\x1b[2J odd " + 999 * "word ")), "cannot be recorded (an"),
    (wrong(first_weight), "its weights differ by"),
    (wrong(loss), "its losses differ by"),
    (wrong(gradient), "its gradients differ by"),
    (wrong(statistics), "its statistics differ by"),
    (wrong(nothing_finite), "its losses differ by nan"),
    (wrong(no_hits), "it counts 100 hits instead of"),
]


@pytest.mark.parametrize("record, reason", WRONG)
def test_a_graph_that_fails_or_differs_leaves_the_run_eager_with_the_reason(
    tmp_path, data, recording, monkeypatch, record, reason
):
    monkeypatch.setattr(graph, "DEVICES", ())
    eager, _ = run(data, tmp_path / "eager")
    monkeypatch.setattr(graph, "DEVICES", ("cpu",))
    monkeypatch.setattr(graph, "record", record)
    trained, lines = run(data, tmp_path / "failed")
    assert trained.step == "eager" and lines[0] == trained.why
    assert trained.why.startswith("The step ran eagerly, not as a CUDA graph: ") and reason in trained.why
    assert trained.why.isprintable() and len(trained.why) < 500, "a record takes it"
    assert torch.equal(numbers(trained), numbers(eager)), "nothing of the attempt is left"
    kept = training.finished(tmp_path / "failed" / training.WEIGHTS, trained.model)
    assert kept == (trained.curve, "eager", trained.why)


@pytest.mark.parametrize("kept", ["set_rates", "step"])
def test_what_a_graph_has_kept_of_its_recording_is_found(tmp_path, data, recording, monkeypatch, kept):
    """Rates that it does not read again, or the batch it was recorded on."""
    if kept == "set_rates":
        monkeypatch.setattr(graph.GraphLoop, "set_rates", lambda own, factor: None)
    else:
        monkeypatch.setattr(graph.GraphLoop, "step", lambda own, images, labels: (own.replay(), own.written)[1])
    trained, _ = run(data, tmp_path)
    assert trained.step == "eager" and ("weights" if kept == "set_rates" else "losses") in trained.why


def test_an_error_of_the_run_itself_is_raised_by_its_eager_step(tmp_path, data, recording):
    settings = Settings(Banded, RECIPE, {"ranking": Loss(losses.ranking, options=dict(margin=0.1))})
    with pytest.raises(ReidError, match="this model's output has none"):
        training.train(settings, data, seed=0, folder=tmp_path, log=lambda line: None)


def test_a_band_given_as_a_tensor_is_the_band_that_is_cut_out():
    window = torch.randn(2, 3, 12, 4).contiguous(memory_format=torch.channels_last)
    for top in range(9):
        ways = []
        for way in ("rows", "cut"):
            own = window.clone().requires_grad_()
            if way == "rows":
                left = drop_block(own, 0.3, torch.tensor(top))
            else:
                left = torch.cat([own[:, :, :top], own[:, :, top + 4 :]], dim=2)
            (left**2).sum().backward()
            ways.append((left, own.grad))
        assert all(torch.equal(one, other) for one, other in zip(*ways, strict=True))


SYSTEMS = {
    "IDE": ("standins/difficulty", "ResNet-50, trained"),
    "SafeNet": ("safenet/table4", "SafeNet (ResNet-50)"),
    "MROS": ("mros/table1", "IV Complete MROS"),
    "MSGWDP": ("msgwdp/table2", "Baseline + NL + MSG + WDP"),
    "FMN": ("fmn/table1", "FMN"),
    "HAMR": ("hamr/table2", "Ours"),
}


def system(name, **changes):
    table = papers.table(SYSTEMS[name][0])
    settings = table.settings(papers.rows(table, [SYSTEMS[name][1]])[0], "small")
    settings = replace(settings, recipe=settings.recipe.but(start="scratch", **changes))
    first = None
    if settings.first is not None:
        before = settings.first.settings
        first, _ = training.build(replace(before, recipe=before.recipe.but(start="scratch")), 8, 0)
    model, _ = training.build(settings, 8, 0, first)
    return settings, model


def batch_of(settings, device, number=0):
    recipe = settings.recipe.resolved()
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(recipe["batch"], 3, *recipe["size"], generator=generator)
    labels = torch.arange(recipe["batch"]) // (recipe["per_identity"] or 1) % 8
    return sent(images, device), sent(labels, device)


def test_hamr_draws_its_bands_outside_of_a_recorded_step(recording):
    """21 windows, each with a band of its own: the same numbers as where the step draws them."""
    settings, model = system("HAMR", batch=4, per_identity=2, size=(192, 64))
    eager = training.Loop.of(settings, step.on_device(model, torch.device("cpu")), 8)
    ours, why = graph.recorded(eager, *batch_of(settings, torch.device("cpu")))
    assert isinstance(ours, graph.GraphLoop), why
    found = []
    for way in (eager, ours):
        torch.manual_seed(5)
        way.set_rates(1.0)
        terms, _ = way.step(*batch_of(settings, torch.device("cpu"), 1))
        found.append(torch.stack([value.clone() for value in terms.values()]))
    assert torch.allclose(*found, rtol=1e-5)


@NEEDS_GPU
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_graph_equals_the_eager_steps_on_a_gpu_for_20_steps(name):
    """Each step from the eager loop's state, for errors of rounding grow from step to step."""
    device = torch.device("cuda")
    settings, model = system(name, batch=16)
    eager = training.Loop.of(settings, step.on_device(model, device), 8)
    ours, why = graph.recorded(eager, *batch_of(settings, device))
    assert isinstance(ours, graph.GraphLoop), why
    for number in range(20):
        ours.rewind(eager)
        assert graph.difference(eager, ours, *batch_of(settings, device, number)) == ""
        torch.manual_seed(number)
        eager.set_rates(1.0)
        eager.step(*batch_of(settings, device, number))


@NEEDS_GPU
@pytest.mark.parametrize("changes", CHANGES)
def test_a_training_by_graph_equals_an_eager_one_on_a_gpu(tmp_path, data, changes, monkeypatch):
    """Six steps with rates, momentum that is forgotten, bands and dropout: only rounding differs."""
    on_gpu = TrainingImages(data.images.cuda(), data.labels.cuda(), data.files)
    ours, _ = run(on_gpu, tmp_path / "graph", changes)
    assert (ours.step, ours.why) == ("cuda graph", "")
    monkeypatch.setattr(graph, "DEVICES", ())
    eager, _ = run(on_gpu, tmp_path / "eager", changes)
    assert torch.allclose(numbers(ours), numbers(eager), atol=2e-3)


@NEEDS_GPU
def test_a_step_that_waits_for_the_gpu_is_left_eager_and_dropout_works_on(tmp_path, data, monkeypatch):
    """A recording that is broken off must not leave the generator of dropout in its mode."""
    on_gpu = TrainingImages(data.images.cuda(), data.labels.cuda(), data.files)
    forward = Banded.forward

    def waiting(model, images):
        output = forward(model, images)
        float(output.embedding.sum())
        return output

    monkeypatch.setattr(Banded, "forward", waiting)
    trained, _ = run(on_gpu, tmp_path)
    assert trained.step == "eager" and "cannot be recorded" in trained.why
    assert len(trained.curve) == RECIPE.epochs
