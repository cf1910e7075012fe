"""`benchmarks/training.py` measures a case from beginning to end."""

import runpy
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "training.py"


@pytest.mark.all
def test_a_case_is_measured():
    bench = SimpleNamespace(**runpy.run_path(str(FILE)))
    given = Namespace(budget="smoke", batch=None, steps=1, rounds=1, workers=0)
    found = bench.measure_case(given, "SafeNet")
    assert found["step"] in ("eager", "cuda graph") and found["memory_mb"] > 0
    expected = {"bare step", "our loop", "conventional"} | ({"graph"} if found["step"] == "cuda graph" else set())
    assert {kind for kind in bench.KINDS if found.get(kind, 0) > 0} == set(found["rounds"]) == expected
    assert all(len(rates) == 1 for rates in found["rounds"].values())
