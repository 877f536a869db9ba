"""Check the branch coverage of money, limits, authentication, and crypto (make coverage).

pyproject.toml lists the files. Each test run with COVERAGE=NAME leaves its figures in
.coverage.NAME. This combines them first, because some lines run on only one of the databases.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from coverage import Coverage

PROMISED_PERCENT = 100


def main(runs: Iterable[str]) -> int:
    coverage = Coverage(data_file=".coverage")
    coverage.combine([f".coverage.{run}" for run in runs], strict=True, keep=True)
    coverage.save()
    # A file that no test imports has no figures, and so would show no missing line.
    unseen = list_files(coverage) - coverage.get_data().measured_files()
    for path in sorted(unseen):
        print(f"{path}: listed in pyproject.toml, but no test imports it.")
    return 0 if coverage.report(show_missing=True) >= PROMISED_PERCENT and not unseen else 1


def list_files(coverage: Coverage) -> set[str]:
    """Return the files that pyproject.toml lists. A pattern without a match is kept as it is."""
    files: set[str] = set()
    for pattern in cast(list[str], coverage.get_option("run:include")):
        files |= set(map(str, Path().glob(pattern))) or {pattern}
    return files


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
