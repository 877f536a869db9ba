"""Helpers of the tests. The fixtures made from them are in conftest.py."""
