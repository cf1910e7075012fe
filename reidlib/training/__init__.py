"""Training: the loop, one step, schedule, checkpoints, precision, and what a network costs."""

from reidlib.training.checkpoint import (
    CHECKPOINT,
    PREVIOUS,
    WEIGHTS,
    checkpoint_threads,
    finished,
    load_checkpoint,
    resume,
    save_checkpoint,
    write_tensors,
)
from reidlib.training.cost import peak_memory_mb
from reidlib.training.loop import Trained, TrainingImages, run_epoch, train
from reidlib.training.precision import deterministic
from reidlib.training.schedule import epoch_seed, parameter_groups, rate_factor
from reidlib.training.step import Loop, batch_that_fits, build, on_device

__all__ = [
    "CHECKPOINT",
    "PREVIOUS",
    "WEIGHTS",
    "Loop",
    "Trained",
    "TrainingImages",
    "batch_that_fits",
    "build",
    "checkpoint_threads",
    "deterministic",
    "epoch_seed",
    "finished",
    "load_checkpoint",
    "on_device",
    "parameter_groups",
    "peak_memory_mb",
    "rate_factor",
    "resume",
    "run_epoch",
    "save_checkpoint",
    "train",
    "write_tensors",
]
