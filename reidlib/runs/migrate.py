"""Brings records of schema 1 to today's schema, and to the folder of their budget today. No number changes.

python -m reidlib.runs.migrate [FOLDER]      # default: the results folder
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from reidlib import paths
from reidlib.data import cross_domain
from reidlib.runs import records
from reidlib.runs.datasets import data_digest
from reidlib.spec import ReidError

TIE_RULE_1 = "squared distance within 1e-6"  #: by which the metrics of every record of schema 1 were computed
BUDGETS_1 = {"cpu": "small", "gpu": "medium", "paper": "full"}  #: under the names that they had first, and today's


def migrate(results: Path) -> int:
    """Upgrades every record of schema 1 below results/records, moves it to its place, and returns how many there were.
    Raises ReidError for a record that is damaged, whose key does not follow from its content, or whose place another
    has: nothing after it is changed."""
    upgraded = 0
    for file in sorted(results.glob("records/**/*.json")):
        beside = file.with_suffix(".npz")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content.get("schema", 1) != 1:
                continue
            arrays = beside.read_bytes() if beside.is_file() else b""
            content = upgrade(content, arrays)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
            why = f"{type(fault).__name__}: {fault}"
            raise ReidError(f"{file}: not a record ({why}); delete it and run its row again") from None
        records.check(content, file)
        target = results / records.Record(**content).place
        moved = target.resolve() != file.resolve()
        if moved and target.exists():
            raise ReidError(f"{file}: becomes {target}, which exists already; delete one of them")
        records.write_bytes(target, records.as_json(content), arrays)
        records.read(target)
        if moved:
            beside.unlink(missing_ok=True)
            file.unlink()
        upgraded += 1
    return upgraded


def upgrade(content: dict[str, Any], arrays: bytes) -> dict[str, Any]:
    """A record of schema 1 as one of schema 2. arrays: its per-query file, empty where it failed. Schema 1 kept in
    words the device, its threads, and what changed the numbers there ("cpu (AMD EPYC, 1 thread, fp32 for bf16)"). All
    its networks start from scratch: the keys of others would not follow from their content."""
    device, data = content["device"], content["data"]
    budget = BUDGETS_1.get(content["budget"], content["budget"])
    precision = content["settings"].get("recipe", {}).get("precision", "")
    if precision == "bf16" and "fp32 for bf16" in device:
        precision = "fp32"
    threads = re.search(r"(\d+) threads?\b", device)
    if (pair := cross_domain.PAIRS.get(data["name"])) and "train_digest" not in data:
        data = data | {"train_digest": data_digest(pair[0], data["source"], budget)}
    return content | {
        "budget": budget,
        "data": data,
        "tie_rule": TIE_RULE_1,
        "device_kind": device.split(" ")[0],
        "threads": int(threads[1]) if threads else 0,
        "precision": precision if device else "",
        "step": "eager" if content["curve"] else "",
        "deterministic": "deterministic" in device,
        "per_query_sha256": hashlib.sha256(arrays).hexdigest() if arrays else "",
        "results_version": 1,
        "schema": 2,
        **{"start_digest": "", "held_out": {}, "overhead_seconds": {}, "runs_at_once": 0, "notes": []},
    }


def main() -> None:
    try:
        print(f"{migrate(Path(sys.argv[1]) if sys.argv[1:] else paths.results())} records upgraded")
    except ReidError as fault:
        sys.exit(f"error: {fault}")


if __name__ == "__main__":
    main()
