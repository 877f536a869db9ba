"""What the coverage check passes, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from coverage import Coverage

from scripts import check_coverage

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
[tool.coverage.run]
branch = true
relative_files = true
include = ["money.py", "limits.py"]
"""
FORK = """
def pick(is_left):
    if is_left:
        return 1
    return 2
"""


def test_every_file_that_is_listed_exists() -> None:
    coverage = Coverage(config_file=str(ROOT / "pyproject.toml"))
    listed = check_coverage.list_files(coverage)
    assert "billing/admission.py" in listed
    assert [path for path in sorted(listed) if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize(
    ("left", "right", "status", "words"),
    [
        ("import limits, money; money.pick(True)", "import money; money.pick(False)", 0, "100%"),
        ("import limits, money; money.pick(True)", "import money; money.pick(True)", 1, "5\n"),
        ("import money; money.pick(True)", "import money; money.pick(False)", 1, "limits.py: "),
    ],
    ids=["complete together", "a branch is missing", "a file is never imported"],
)
def test_both_runs_together_must_reach_every_branch(
    tmp_path: Path, left: str, right: str, status: int, words: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    (tmp_path / "money.py").write_text(FORK)
    (tmp_path / "limits.py").write_text("LIMIT = 1\n")
    for run, program in {"sqlite": left, "services": right}.items():
        (tmp_path / "tests.py").write_text(program)
        python(tmp_path, "-m", "coverage", "run", f"--data-file=.coverage.{run}", "tests.py")
    judged = python(tmp_path, str(ROOT / "scripts/check_coverage.py"), "sqlite", "services")
    assert judged.returncode == status, judged.stdout + judged.stderr
    assert words in judged.stdout


def test_a_run_that_left_no_figures_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    judged = python(tmp_path, str(ROOT / "scripts/check_coverage.py"), "sqlite")
    assert judged.returncode != 0
    assert ".coverage.sqlite" in judged.stderr


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
