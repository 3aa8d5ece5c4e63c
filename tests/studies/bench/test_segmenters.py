"""The benchmark of the networks: runs with torch and numpy alone, counts the arithmetic, reports what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from studies.bench.segmenters import cpu, flops
from studies.bench.segmenters.flops import Part

ROOT = Path(__file__).parents[3]
ONLY_TORCH_AND_NUMPY = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

NEEDED = {"numpy", "torch", "torchgen", "r2seg_agent", "studies"}
TORCH_NEEDS = {"typing_extensions", "filelock", "fsspec", "jinja2", "markupsafe", "networkx", "sympy", "mpmath"}
OPTIONAL_TO_TORCH = {"setuptools", "pkg_resources", "_distutils_hack"}


class Bare(PathFinder):
    # Finds what a checkout and `pip install torch numpy` offer, and nothing else that is installed here.
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        allowed = sys.stdlib_module_names | NEEDED | TORCH_NEEDS | OPTIONAL_TO_TORCH
        return super().find_spec(name, path, target) if top in allowed or top.startswith("_") else None


for name in [name for name in sys.modules if name.partition(".")[0] in ("pydantic", "scipy", "rich", "typer")]:
    del sys.modules[name]
sys.meta_path = [BuiltinImporter, FrozenImporter, Bare]
"""


def alone(code: str) -> str:
    """Run `code` where nothing but torch, what torch itself needs, and numpy can be imported."""
    done = subprocess.run(
        [sys.executable, "-c", ONLY_TORCH_AND_NUMPY + code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_guard_guards() -> None:
    refused = "\nfor name in ('pydantic', 'scipy', 'SimpleITK', 'rich', 'typer'):\n    try:\n        __import__(name)\n"
    assert alone(refused + "    except ModuleNotFoundError:\n        print('refused')").split() == ["refused"] * 5


def test_the_benchmark_and_both_networks_import_alone() -> None:
    code = """
import studies.bench.segmenters.__main__
import r2seg_agent.segment.biomedparse.model
import r2seg_agent.segment.lite_medsam.model
from studies.bench.segmenters.cpu import lite_medsam_parts
from r2seg_agent.segment.biomedparse.tokenizer import tokenize
print(len(tokenize("tumor in liver CT")), round(lite_medsam_parts()[0].gflop))
"""
    assert alone(code).split() == ["6", "75"]


@pytest.mark.slow
def test_a_case_is_measured_alone() -> None:
    case = cpu.Case(**json.loads(alone("\nfrom studies.bench.segmenters import cpu\ncpu.child('lite-medsam')")))
    assert case.encode > case.decode > 0
    assert case.rate > 0


def test_the_arithmetic_grows_with_the_image_and_the_prompts() -> None:
    """Convolutions and products grow with the pixels; only the attention of the coarsest map grows faster."""
    small, large = (dict(flops.biomedparse_parts(size)) for size in (128, 256))
    for part in ("encode: backbone", "encode: pixel decoder"):
        assert large[part] / small[part] == pytest.approx(4, rel=0.05)
    assert large["text tower, a prompt"] == small["text tower, a prompt"]
    assert large["decode: the first prompt"] > large["decode: each further prompt"] > 0
    # 18 of the backbone's 24 blocks: 12 products of 768 × 768 for each of 16 × 16 pixels at 256².
    blocks = 18 * 12 * 768**2 * 2 * 16**2 / 1e9
    assert blocks < large["encode: backbone"] < 1.6 * blocks


def test_the_table_says_how_far_from_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {1: (30.0, 2.0), 5: (31.0, 4.0), 20: (29.0, 11.5)}
    monkeypatch.setattr(
        cpu, "_child", lambda kind, weights, n, precision: cpu.Case(*measured[int(n)], 100.0, 2.0, 33.0)
    )
    monkeypatch.setattr(cpu, "biomedparse_parts", lambda size: [Part("encode: all", 1450.0), Part("decode", 50.0)])
    lines = list(cpu.biomedparse_table(Path("made_up.pt"), "float32"))
    assert "| 5 | 31.0 | 4.00 | 0.50 | 33.0 | 2.00 |" in lines
    assert "| 20 | 29.0 | 11.50 | 0.50 | 33.0 | 2.00 |" in lines
    assert "14.5 CPU-s at the measured float32 rate of 100 GFLOP" in lines[-1]
    assert "took 29.0 CPU-s, 50% of that rate" in lines[-1]
