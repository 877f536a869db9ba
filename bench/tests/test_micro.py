"""The stops that `bench.micro` times are functions of today."""

import pkgutil

import pytest

from bench import micro

TARGETS = [target for targets in micro.STOPS.values() for target in targets]


@pytest.mark.parametrize("target", TARGETS)
def test_every_stop_that_is_timed_exists(target: str) -> None:
    owner, _, attribute = target.replace(":", ".").rpartition(".")
    assert callable(getattr(pkgutil.resolve_name(owner), attribute))
