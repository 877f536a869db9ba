"""A program that manages an account through /api/manage/."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client

from channels import account_keys
from channels.audit import COMMAND_LINE
from channels.tests.factories import Site


class ManageClient:
    """Calls /api/manage/ with an account key. Paths are those behind it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.client = Client(raise_request_exception=False)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        text = body if isinstance(body, str) else json.dumps({} if body is None else body)
        return self.client.generic(
            method,
            f"/api/manage/{path}",
            "" if method in ("GET", "DELETE") else text,
            content_type="application/json",
            headers={"X-API-Key": self.key} | headers,
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, *, once: str = "", **headers: str) -> Any:
        key = {"Idempotency-Key": once} if once else {}
        return self.call("POST", path, body, **key, **headers)

    def patch(self, path: str, body: Any) -> Any:
        return self.call("PATCH", path, body)

    def put(self, path: str, body: Any) -> Any:
        return self.call("PUT", path, body)

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)


def manager_of(site: Site) -> ManageClient:
    """Return a program with a new account key of the site's account."""
    issued = account_keys.issue_account_key(
        account=site.channel.account, name="script", actor=COMMAND_LINE
    )
    return ManageClient(issued.clear)
