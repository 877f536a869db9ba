"""Fixtures for all tests of the dashboard."""

from typing import Any

import pytest
from django.test import Client

from channels.tests.factories import Site
from tests.support.clients import owner_client


@pytest.fixture
def owner(site: Site) -> Client:
    """The browser of the site's owner."""
    return owner_client(site)


@pytest.fixture
def connected(settings: Any) -> None:
    """A provider is set up, so pages name prices. Nothing answers at its address."""
    settings.PROVIDER_BASE_URL = "https://models.example/v1"
