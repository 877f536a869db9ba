"""Our modules have no import cycles, and no unexplained imports inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from django.conf import settings

pytestmark = pytest.mark.any_database
ROOTS = (
    "gateway",
    "dashboard",
    "conversations",
    "billing",
    "channels",
    "common",
    "server",
    "scripts",
    "acceptance",
    "bench",
    "tests",
)
FILES = sorted(
    str(path.relative_to(settings.BASE_DIR))
    for root in ROOTS
    for path in Path(settings.BASE_DIR, root).rglob("*.py")
    if "migrations" not in path.parts
)


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph(*ROOTS, cache_dir=None)
    imports = {
        module: graph.find_modules_directly_imported_by(module) - {module}
        for module in graph.modules
    }
    # Raises CycleError, which names the modules in the cycle.
    TopologicalSorter(imports).prepare()


@pytest.mark.parametrize("root", ROOTS)
def test_an_import_in_a_function_has_its_reason_on_the_line_above(root: str) -> None:
    files = [file for file in FILES if file.startswith(f"{root}/")]
    assert files
    assert [
        f"{file}:{line}" for file in files for line in _unexplained(Path(settings.BASE_DIR, file))
    ] == []


def test_an_unexplained_import_is_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import gateway\n"
        "def explained():\n"
        "    # It would slow the start.\n"
        "    from billing import holds\n"
        "    import common.db\n"
        "def hidden():\n"
        "    import json\n"
        "    if json:\n"
        "        from channels.models import Channel\n"
    )
    assert list(_unexplained(module)) == [9]


def _unexplained(path: Path) -> Iterator[int]:
    """Yield the lines of our imports in functions that have no comment above them.

    One comment is enough for several imports in a row.
    """
    text = path.read_text()
    lines = text.splitlines()
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if not (isinstance(node, ast.Import | ast.ImportFrom) and _is_ours(node)):
                continue
            above = node.lineno - 2
            while lines[above].lstrip().startswith(("import ", "from ")):
                above -= 1
            if not lines[above].lstrip().startswith("#"):
                yield node.lineno


def _is_ours(node: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(node, ast.Import):
        return any(name.name.partition(".")[0] in ROOTS for name in node.names)
    return bool(node.level) or (node.module or "").partition(".")[0] in ROOTS
