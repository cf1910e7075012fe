"""One worker of a render: its share of the missing images. Started by `write.py`, not by hand."""

from __future__ import annotations

import json
import sys

import torch

from .domain import Variant
from .write import Job, draw, readable


def main() -> int:
    """Render the share that the JSON argument describes; report each batch as a number on a line."""
    words = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    job = Job.of(**words["job"] | {"variant": Variant(**words["job"]["variant"])})
    # The share is cut before what is there is left out: other workers are already writing.
    mine = job.missing(job.truth, job.specs[words["number"] :: words["count"]])
    try:
        for number in draw(job, mine, words["number"]):
            print(number, flush=True)
    except BrokenPipeError:  # the parent is gone
        return 1
    except OSError as error:
        print("stop", readable(error, job.out), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
