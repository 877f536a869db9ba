"""What one plain chat passes through: functions, files and depth, counted by `sys.setprofile`.

    python -m bench.path [--kind pg|sqlite] [--endpoint v1] [--streams] [--story]

Runs the whole WSGI application in one process, warms it up, and counts one request. Only the
project's own code counts: a function once however often it is called, a frame only if it is ours.
Generators count as the functions they are; comprehensions belong to their function. `--story`
prints each call in its order, indented by depth.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from bench.pair import PATHS, asker, plan_of
from bench.stand import Stand

ROOT = Path(__file__).resolve().parent.parent
WARMING = 100
# The measuring code is not counted.
NOT_OURS = ("bench", "acceptance", "tests", ".venv")
# Parts of the function around them.
WITHIN = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


class Trail:
    """Records every call of one request, except on threads that run already (a stream's)."""

    def __init__(self) -> None:
        self.functions: Counter[CodeType] = Counter()
        self.files: Counter[str] = Counter()
        self.story: list[tuple[int, str, str]] = []
        self.deepest = 0

    def hear(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not is_ours(code):
            return
        depth, around = 1, frame.f_back
        while around is not None:
            depth += is_ours(around.f_code)
            around = around.f_back
        self.deepest = max(self.deepest, depth)
        name = str(Path(code.co_filename).relative_to(ROOT))
        if not self.functions[code]:
            self.files[name] += 1
        self.functions[code] += 1
        self.story.append((depth, name, code.co_qualname))

    def report(self) -> dict[str, Any]:
        return {
            "functions": len(self.functions),
            "calls": self.functions.total(),
            "files": dict(self.files.most_common()),
            "frames": self.deepest,
            "story": self.story,
        }


def is_ours(code: CodeType) -> bool:
    if code.co_name in WITHIN or not code.co_filename.startswith(f"{ROOT}{os.sep}"):
        return False
    return Path(code.co_filename).relative_to(ROOT).parts[0] not in NOT_OURS


def inside(plan: dict[str, Any]) -> dict[str, Any]:
    """Answer one request in this process, warmed up, and return what it passed through."""
    ask = asker(plan)
    for number in range(WARMING):
        ask(0, number)
    path = Trail()
    threading.setprofile(path.hear)
    sys.setprofile(path.hear)
    try:
        ask(1, 0)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return path.report()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.path")
    parser.add_argument("--kind", choices=("pg", "sqlite"), default="pg")
    parser.add_argument("--endpoint", choices=PATHS, default="chat")
    parser.add_argument("--streams", action="store_true")
    parser.add_argument("--story", action="store_true", help="print each call in its order")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.inside:
        json.dump(inside(json.load(sys.stdin)), sys.stdout)
        return
    with Stand(told.kind, channels=1) as stand:
        done = subprocess.run(
            [sys.executable, "-m", "bench.path", "--inside"],
            env=stand.rig.env,
            input=json.dumps(plan_of(stand, told.endpoint, is_stream=told.streams)),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    show(json.loads(done.stdout), is_story=told.story)


def show(report: dict[str, Any], *, is_story: bool) -> None:
    if is_story:
        for depth, file, function in report["story"]:
            print(f"{'  ' * (depth - 1)}{function}  {file}")
        print()
    for file, functions in report["files"].items():
        print(f"{functions:5} {file}")
    print(
        f"\n{report['functions']} functions ({report['calls']} calls), "
        f"{len(report['files'])} files, {report['frames']} frames deep"
    )


if __name__ == "__main__":
    main()
