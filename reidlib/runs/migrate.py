"""Brings records of an older schema to today's, and proves that each still has the key that its row asks for.

    python -m reidlib.runs.migrate [FOLDER]      # default: the results folder

A record whose fields are complete today is left as it is, so that a second call changes nothing. No number changes.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reidlib import papers, paths
from reidlib.data import cross_domain
from reidlib.runs import records
from reidlib.runs.datasets import data_digest
from reidlib.runs.run import Run, runs_of
from reidlib.spec import ReidError

TIE_RULE_1 = "squared distance within 1e-6"
"""The rule by which the metrics of every record of schema 1 were computed."""
BUDGETS_1 = {"cpu": "small", "gpu": "medium", "paper": "full"}
"""Budgets under the names that they had first, and today's."""


def migrate(results: Path, log: Callable[[str], None] = print) -> dict[str, int]:
    """Migrates every record below results/records; counts of those upgraded, renamed, asked for by a row, and orphaned.

    Raises ReidError for a record that is damaged, or whose key does not follow from its content: nothing after it is
    changed.
    """
    counts = dict.fromkeys(("upgraded", "renamed", "asked for", "orphaned"), 0)
    for file in sorted(results.glob("records/**/*.json")):
        beside = file.with_suffix(".npz")
        try:
            arrays = beside.read_bytes() if beside.is_file() else b""
            content = json.loads(file.read_text(encoding="utf-8"))
            old = content.get("schema", 1) == 1
            content = upgrade(content, arrays) if old else content
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
            why = f"{type(fault).__name__}: {fault}"
            raise ReidError(f"{file}: not a record ({why}); delete it and run its row again") from None
        if old:
            records.check(content, file)
            file = _put(records.Record(**content), arrays, file, results)
            counts["upgraded"] += 1
        record = records.read(file)
        wanted = _runs(record)
        if any(run.key == record.key for run in wanted):
            counts["asked for"] += 1
        elif record.ok and (run := _same_settings(record, wanted)):
            trained, tested = run.settings.trained(), run.settings.tested()
            new = replace(record, key=run.key, network=run.network, settings=trained, tested=tested)
            log(f"{file}: renamed to {_put(new, arrays, file, results).name}")
            counts["renamed"] += 1
        else:
            log(f"{file}: no row of today's tables asks for it; left as it is")
            counts["orphaned"] += 1
    return counts


def upgrade(content: dict[str, Any], arrays: bytes) -> dict[str, Any]:
    """A record of schema 1 as one of schema 2. arrays: its per-query file, empty where it failed.

    What schema 1 kept in words is taken apart here for the last time: the device, its threads, and what changed the
    numbers there ("cpu (AMD EPYC, 1 thread, fp32 for bf16)").
    """
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
        "start_digest": "",  # of schema 1 there are networks from scratch only: the keys of others would not follow
        "held_out": {},
        "tie_rule": TIE_RULE_1,
        "overhead_seconds": {},
        "device_kind": device.split(" ")[0],
        "threads": int(threads[1]) if threads else 0,
        "runs_at_once": 0,
        "precision": precision if device else "",
        "step": "eager" if content["curve"] else "",
        "deterministic": "deterministic" in device,
        "notes": [],
        "per_query_sha256": hashlib.sha256(arrays).hexdigest() if arrays else "",
        "results_version": 1,
        "schema": 2,
    }


def _put(record: records.Record, arrays: bytes, file: Path, results: Path) -> Path:
    """Writes a record to its place, which no other may have, and removes it from where it was (`file`)."""
    target = results / record.place
    moved = target.resolve() != file.resolve()
    if moved and target.exists():
        raise ReidError(f"{file}: becomes {target}, which exists already; delete one of them")
    records.write_bytes(target, records.as_json(asdict(record)), arrays)
    records.read(target)
    if moved:
        file.with_suffix(".npz").unlink(missing_ok=True)
        file.unlink()
    return target


def _runs(record: records.Record) -> list[Run]:
    """Every run of today's tables, of the record's paper, that is trained on the same data from the same seed."""
    asked = {"dataset": record.data["name"], "budget": record.budget, "source": record.data["source"]}
    return [
        run
        for table in papers.tables().values()
        if table.paper == record.made_for["paper"]
        if asked["dataset"] in table.datasets and record.budget in table.budgets
        for run in runs_of(table.slug, seeds=(record.seed,), **asked)
        if run.data_digest == record.data["digest"]
    ]


def _same_settings(record: records.Record, runs: Sequence[Run]) -> Run | None:
    """The run of the record's own row whose settings say all that the record's say, and perhaps more."""
    row = tuple(record.made_for[name] for name in ("table", "row", "variant"))
    for run in runs:
        now = [run.settings.trained(), run.settings.tested()]
        same_row = row == (run.table.name, run.row.label, run.row.variant)
        if same_row and all(map(_contains, now, (record.settings, record.tested))):
            return run
    return None


def _contains(now: Any, then: Any) -> bool:
    """Whether every value of `then` stands in `now`; `now` may name more."""
    if isinstance(then, dict) and isinstance(now, dict):
        return all(name in now and _contains(now[name], value) for name, value in then.items())
    return now == then


def main(line: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if line is None else line
    try:
        counts = migrate(Path(given[0]) if given else paths.results())
    except ReidError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.status
    print(", ".join(f"{number} {word}" for word, number in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
