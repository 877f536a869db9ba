"""The container files, checked without building them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from gateway import environment

ROOT: Path = settings.BASE_DIR
COMPOSE = (ROOT / "compose.yaml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_logs_are_rotated(name: str) -> None:
    assert {"max-size", "max-file"} <= set(SERVICES[name]["logging"]["options"])


@pytest.mark.parametrize("name", ["migrate", "web", "worker"])
def test_the_gateway_has_files_and_reaches_the_host(name: str) -> None:
    assert SERVICES[name]["ulimits"]["nofile"] >= 8192
    assert SERVICES[name]["extra_hosts"] == ["host.docker.internal:host-gateway"]
    assert SERVICES[name]["read_only"] is True


def test_web_and_worker_are_given_time_to_finish() -> None:
    longest = settings.PROVIDER_STREAM_DEADLINE + 15
    assert int(SERVICES["web"]["stop_grace_period"].removesuffix("s")) >= longest
    assert int(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) > 10
    assert "ping" in SERVICES["worker"]["healthcheck"]["test"]


def test_no_password_is_fixed() -> None:
    for password in re.findall(r"POSTGRES_PASSWORD: (.*)|gateway:(.*)@postgres", COMPOSE):
        assert "".join(password).startswith("${POSTGRES_PASSWORD:?")


def test_images_are_pinned_to_a_release() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(images) == 7
    for image in images:
        assert re.search(r":\d+\.\d+(\.\d+)?(-|$)", image), image


def test_the_image_has_the_version_of_the_gateway() -> None:
    assert f'org.opencontainers.image.version="{settings.VERSION}"' in DOCKERFILE
    assert SERVICES["web"]["image"] == f"ai-gateway:{settings.VERSION}"


def test_every_variable_is_a_setting() -> None:
    assert set(SERVICES["web"]["environment"]) <= set(environment.known)
