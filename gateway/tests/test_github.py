"""The files that GitHub reads: the workflow, the issue forms, how to report vulnerabilities."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

ROOT: Path = settings.BASE_DIR
GITHUB = ROOT / ".github"


def read_yaml(path: str) -> Any:
    text = (GITHUB / path).read_text()
    # YAML 1.1 parses the word `on` as true.
    return yaml.safe_load(text.replace("\non:", '\n"on":'))


def test_the_workflow_runs_all_checks_on_debian() -> None:
    workflow = read_yaml("workflows/ci.yml")
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert job["container"]["image"] == "debian:12"
    assert job["timeout-minutes"] == 60
    assert {"push", "pull_request"} <= set(workflow["on"])


def test_the_workflow_may_only_read_and_takes_actions_by_commit() -> None:
    workflow = read_yaml("workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for action in (step["uses"] for step in steps if "uses" in step):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), action


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_an_issue_form_has_fields_with_ids_and_labels(name: str) -> None:
    form = read_yaml(f"ISSUE_TEMPLATE/{name}.yml")
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_vulnerabilities_are_led_away_from_issues() -> None:
    (link,) = read_yaml("ISSUE_TEMPLATE/config.yml")["contact_links"]
    assert "SECURITY.md" in link["about"]
    assert link["url"].startswith("https://")
