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
from dataclasses import asdict, fields, replace
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


def migrate(results: Path, log: Callable[[str], None] = print) -> dict[str, int]:
    """Migrates every record below results/records; counts of those upgraded, renamed, asked for by a row, and orphaned.

    Raises ReidError for a record that is damaged, or whose key does not follow from its content: nothing after it is
    changed.
    """
    counts = dict.fromkeys(("upgraded", "renamed", "asked for", "orphaned"), 0)
    for file in sorted(results.glob("records/**/*.json")):
        content = _json(file)
        if content.get("schema", 1) == 1:
            upgraded = upgrade(
                content, _bytes(file.with_suffix(".npz")) if content.get("status") == "finished" else b""
            )
            records.check(upgraded, file)
            records.write_bytes(file, records.as_json(upgraded))
            counts["upgraded"] += 1
        record = records.read(file)
        wanted = _runs(record)
        if any(run.key == record.key for run in wanted):
            counts["asked for"] += 1
        elif record.ok and (run := _same_settings(record, wanted)):
            new = rekeyed(record, run)
            target = results / new.place
            records.write_bytes(target, records.as_json(asdict(new)), _bytes(file.with_suffix(".npz")))
            records.read(target)
            file.with_suffix(".npz").unlink()
            file.unlink()
            log(f"{file}: renamed to {target.name}")
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
    recipe = content["settings"].get("recipe", {})
    precision = recipe.get("precision", "")
    if precision == "bf16" and "fp32 for bf16" in device:
        precision = "fp32"
    threads = re.search(r"(\d+) threads?\b", device)
    if (pair := cross_domain.PAIRS.get(data["name"])) and "train_digest" not in data:
        data = data | {"train_digest": data_digest(pair[0], data["source"], content["budget"])}
    new = {
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
    order = [one.name for one in fields(records.Record)]
    return dict(sorted((content | new).items(), key=lambda one: order.index(one[0]) if one[0] in order else -1))


def rekeyed(record: records.Record, run: Run) -> records.Record:
    """The record under the key of this run, which has the same settings spelled as today."""
    return replace(
        record, key=run.key, network=run.network, settings=run.settings.trained(), tested=run.settings.tested()
    )


def _runs(record: records.Record) -> list[Run]:
    """Every run of today's tables, of the record's paper, that is trained on the same data from the same seed."""
    found = []
    for table in papers.tables().values():
        data = record.data
        if table.paper != record.made_for["paper"] or data["name"] not in table.datasets:
            continue
        if record.budget in table.budgets:
            dataset, source, seeds = data["name"], data["source"], (record.seed,)
            runs = runs_of(table.slug, budget=record.budget, dataset=dataset, source=source, seeds=seeds)
            found += [run for run in runs if run.data_digest == data["digest"]]
    return found


def _same_settings(record: records.Record, runs: Sequence[Run]) -> Run | None:
    """The run of the record's own row whose settings say all that the record's say, and perhaps more."""
    for run in runs:
        own = run.table.name, run.row.label, run.row.variant
        said = run.settings.trained(), run.settings.tested()
        if own == tuple(record.made_for[name] for name in ("table", "row", "variant")) and all(
            _contains(now, then) for now, then in zip(said, (record.settings, record.tested), strict=True)
        ):
            return run
    return None


def _contains(now: Any, then: Any) -> bool:
    """Whether every value of `then` stands in `now`; `now` may name more."""
    if isinstance(then, dict) and isinstance(now, dict):
        return all(name in now and _contains(now[name], value) for name, value in then.items())
    return now == then


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        content["device"], content["data"]["name"], content["settings"], content["curve"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as fault:
        raise ReidError(
            f"{file}: not a record ({type(fault).__name__}: {fault}); delete it and run its row again"
        ) from None
    return content


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as fault:
        raise ReidError(f"{file}: cannot be read ({fault.strerror}); delete its record and run its row again") from None


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
