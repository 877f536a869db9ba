"""The session store: Django's session table, with each session's user and log-in time.

A session ends with its row, so it can be ended from elsewhere. It also ends LOGIN_IDLE_SECONDS
after the last request, and LOGIN_LIFETIME_SECONDS after the log-in. Both are computed from the row
that a request reads anyway.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY
from django.contrib.auth import SESSION_KEY as USER_ID_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.utils import timezone

from channels.models import LoginSession
from common.clock import HONEST_SKEW

PAUSE_BETWEEN_WRITES = timedelta(minutes=1)
# Sessions hold the path of the back end that logged them in. The paths of earlier releases.
MOVED_BACKENDS = {"gateway.accounts.backend.PersonBackend": "dashboard.login.backend.PersonBackend"}


class SessionStore(DatabaseStore):
    """A database session that knows its row and who uses the browser."""

    row: LoginSession | None = None
    # Who uses the browser now. Set by gate.py.
    address = user_agent = ""

    @classmethod
    def get_model_class(cls) -> type[LoginSession]:
        return LoginSession

    def _get_session_from_db(self) -> LoginSession | None:
        row: LoginSession | None = super()._get_session_from_db()  # type: ignore[misc]  # not in the stubs
        if row is None or timezone.now() >= end_of(row):
            self._session_key = None
            return None
        self.row = row
        return row

    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        """Return the session's data. A log-in of an earlier release stays one."""
        data: dict[str, Any] = super().decode(session_data)
        if (path := data.get(BACKEND_SESSION_KEY)) in MOVED_BACKENDS:
            data[BACKEND_SESSION_KEY] = MOVED_BACKENDS[path]
        return data

    def create_model_instance(self, data: dict[str, Any]) -> LoginSession:
        """Return the complete row to write, as Django does at every save."""
        new = super().create_model_instance(data)
        assert isinstance(new, LoginSession)
        user_id = data.get(USER_ID_KEY)
        new.user_id = int(user_id) if user_id else None
        if self.row is not None and self.row.user_id == new.user_id:
            # A new session key after a password change is still the same log-in.
            new.logged_in_at = self.row.logged_in_at
            new.address, new.user_agent = self.row.address, self.row.user_agent
        if self.address:
            new.address, new.user_agent = self.address, self.user_agent
        new.expire_date = min(new.expire_date, end_of(new))
        self.row = new
        return new

    def see(self) -> None:
        """Record that this session is in use. Writes to the database at most once a minute.

        Does not write the session's data, so that concurrent requests do not lose theirs.
        """
        row, now = self.row, timezone.now()
        # A time in the future came from a wrong clock that has since been corrected: overwrite it.
        if row is None or -HONEST_SKEW <= now - row.last_seen_at < PAUSE_BETWEEN_WRITES:
            return
        before, row.last_seen_at = row.last_seen_at, now
        row.address, row.user_agent = self.address, self.user_agent
        row.expire_date = end_of(row)
        LoginSession.objects.filter(session_key=row.session_key, last_seen_at=before).update(
            last_seen_at=now,
            address=row.address,
            user_agent=row.user_agent,
            expire_date=row.expire_date,
        )


def end_of(row: LoginSession) -> datetime:
    """Return when this session ends if no further request comes."""
    end = row.last_seen_at + timedelta(seconds=settings.LOGIN_IDLE_SECONDS)
    if row.user_id is None:
        return end
    return min(end, row.logged_in_at + timedelta(seconds=settings.LOGIN_LIFETIME_SECONDS))
