"""The name under which released migrations know `uuid7`."""

from common.db import uuid7

__all__ = ["uuid7"]
