"""Records that no run has made: complete by every rule of the reader, with numbers chosen by the test."""

from dataclasses import replace

import numpy as np

from reidlib.runs import records
from reidlib.spec import Row


def changes(row: Row) -> bool:
    """Whether a row differs from the base of its table at all."""
    return replace(row, label="", variant="", note="") != Row("", variant="")


def arrays(first_hit=(1, 2, 1, 4), excluded=0) -> dict[str, np.ndarray]:
    """Per-query arrays of queries whose first match has these ranks; AP is 1 / rank. Some queries may be excluded.

    Two queries show one identity."""
    rank = np.array([*first_hit, *[0] * excluded], dtype=np.int64)
    valid = np.arange(len(rank)) < len(first_hit)
    ap = np.where(valid, 1 / np.maximum(rank, 1), np.nan)
    found = {"ap": ap, "ap_trapezoid": ap.copy(), "inp": ap.copy(), "first_hit": rank, "valid": valid}
    return found | {"identity": np.arange(len(rank)) // 2}


def metrics(per_query) -> dict[str, float]:
    """The metrics of these arrays, as the evaluator would give them."""
    valid, hit = per_query["valid"], per_query["first_hit"]
    found = {f"rank{k}": 100 * float((hit[valid] <= k).mean()) for k in (1, 5, 10, 20)}
    found |= {
        "mAP": 100 * float(per_query["ap"][valid].mean()),
        "mAP_trapezoid": 100 * float(per_query["ap_trapezoid"][valid].mean()),
        "mINP": 100 * float(per_query["inp"][valid].mean()),
    }
    return found | {"queries": int(valid.sum()), "excluded_queries": int((~valid).sum())}


def record(run, per_query=None, **changes) -> records.Record:
    """A finished record of this run; `changes` replace fields (status="failed" takes its numbers away)."""
    data = {"name": run.dataset, "source": run.source, "digest": run.data_digest}
    if run.train_digest:
        data |= {"train_digest": run.train_digest}
    made = records.Record(
        key=run.key,
        network=run.network,
        status="finished",
        made_for={"paper": run.table.paper, "table": run.table.name, "row": run.row.label, "variant": run.row.variant},
        budget=run.budget,
        **{**run.made_from(run.settings), "data": data},
        start="scratch",
        metrics={run.protocol: metrics(per_query or arrays())},
        tie_rule="made up",
        curve=[{"epoch": 1, "loss": 1.0, "images": 32, "seconds": 3.0}],
        seconds=3.0,
        device="cpu (made up, 1 thread)",
        device_kind="cpu",
        threads=1,
        precision="fp32",
        step="eager",
        finished="2026-01-01T00:00:00+00:00",
        per_query_sha256="0" * 64,
    )
    if changes.get("status") == "failed":
        changes = {"error": "because", "metrics": {}, "per_query_sha256": ""} | changes
    return replace(made, **changes)


def write(run, per_query=None, **changes) -> records.Record:
    """Writes such a record, with its per-query file, where the run looks for it."""
    per_query = per_query or arrays()
    return records.write(run.record_file, record(run, per_query, **changes), per_query)
