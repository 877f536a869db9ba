"""Callers of the API."""

from __future__ import annotations

from typing import Any

from django.test import Client


class ApiClient:
    """Calls the API as a backend does: JSON bodies, the key in a header."""

    def __init__(self, key: str | None = None) -> None:
        self.client = Client(raise_request_exception=False)
        self.headers = {"X-API-Key": key} if key else {}

    def chat(self, message: Any = "Hello!", session_id: Any = "s1", **more: Any) -> Any:
        headers = more.pop("headers", {})
        return self.post(
            "/api/chat", {"message": message, "session_id": session_id} | more, headers
        )

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        return self.client.post(
            path, body, content_type="application/json", headers=self.headers | (headers or {})
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=self.headers | headers)

    def history(self, session_id: str = "s1") -> list[dict[str, str]]:
        response = self.client.get("/api/history", {"session_id": session_id}, headers=self.headers)
        assert response.status_code == 200, response.content
        messages: list[dict[str, str]] = response.json()["messages"]
        return messages

    def erase(self, session_id: str = "s1") -> Any:
        return self.client.delete(f"/api/history?session_id={session_id}", headers=self.headers)
