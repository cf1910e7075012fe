"""Does the rule behind the verdicts keep its promise? Asked of the records of a budget.

    python benchmarks/calibration.py --budget small

Prints what varies between runs (seeds, persons), how often rows without a difference are called different, and how
often a planted difference is found, by seeds a side (2,000 draws each); then the same of all splits of the seeds of
every configuration that has at least ten. Where records are missing for a part, it says which. The page "Claims" shows
the same tables.
"""

from __future__ import annotations

import argparse

from reidlib.evaluation.calibration import DRAWS
from reidlib.pages import calibration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="small")
    parser.add_argument("--source", default="stand-in")
    parser.add_argument("--draws", type=int, default=DRAWS)
    given = parser.parse_args()
    print(calibration.page(given.budget, given.source, given.draws))


if __name__ == "__main__":
    main()
