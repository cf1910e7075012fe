"""One worker of a render: its share of the missing pictures. Started by `write.py`, not by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from .domain import Variant
from .plan import Shot, plan
from .write import domain, draw, missing, readable


def share(shots: list[Shot], number: int, count: int) -> list[Shot]:
    """Every `count`-th picture."""
    return shots[number::count]


def main() -> int:
    """Render the share that the JSON argument describes; report each batch as a number on a line."""
    words = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    out, chosen = Path(words["out"]), domain(words["name"], Variant(**words["variant"]))
    shots = plan(chosen, words["scale"], words["seed"])
    # The share is cut before what is there is left out: other workers are already writing.
    mine = missing(out, chosen, share(shots, words["number"], words["count"]), words["truth"])
    try:
        for number in draw(chosen, words["seed"], out, mine, words["device"], words["truth"], words["number"]):
            print(number, flush=True)
    except BrokenPipeError:  # the parent is gone
        return 1
    except OSError as error:
        print("stop", readable(error, out), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
