"""Training: the loop, one step, schedule, checkpoints, precision, and what a network costs."""

from reidlib.training.checkpoint import (
    CHECKPOINT,
    PREVIOUS,
    WEIGHTS,
    checkpoint_threads,
    finished,
    read_tensors,
    write_tensors,
)
from reidlib.training.loop import Trained, TrainingImages, run_epoch, train
from reidlib.training.precision import deterministic
from reidlib.training.schedule import parameter_groups, rate_factor
from reidlib.training.step import Loop, batch_that_fits, build

__all__ = ["CHECKPOINT", "PREVIOUS", "WEIGHTS", "Loop", "Trained", "TrainingImages", "batch_that_fits", "build"]
__all__ += ["checkpoint_threads", "deterministic", "finished", "parameter_groups", "rate_factor"]
__all__ += ["read_tensors", "run_epoch", "train", "write_tensors"]
