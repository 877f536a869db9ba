"""Fixtures for all tests of the dashboard."""

import pytest
from django.test import Client

from channels.tests.factories import Site
from tests.support.clients import owner_client


@pytest.fixture
def owner(site: Site) -> Client:
    """The browser of the site's owner."""
    return owner_client(site)
