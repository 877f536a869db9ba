"""Where sessions lie: Django's own table of sessions, with whose each one is and since when.

A session ends when its row does, so that it can be ended from elsewhere; and by itself, when
nobody was seen for LOGIN_IDLE_SECONDS or LOGIN_LIFETIME_SECONDS after the log-in. Both are
arithmetic on the row that a request reads anyway.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY as USER_ID_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.utils import timezone

from channels.models import LoginSession
from common.clock import HONEST_SKEW

PAUSE_BETWEEN_WRITES = timedelta(minutes=1)


class SessionStore(DatabaseStore):
    """A session in the database that knows its row and who holds the browser."""

    row: LoginSession | None = None
    # Who is at the browser now: set by gate.py.
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

    def create_model_instance(self, data: dict[str, Any]) -> LoginSession:
        """Return the row to write, whole, as Django does at every save."""
        new = super().create_model_instance(data)
        assert isinstance(new, LoginSession)
        user_id = data.get(USER_ID_KEY)
        new.user_id = int(user_id) if user_id else None
        if self.row is not None and self.row.user_id == new.user_id:
            # Under another key after a change of the password: still the same log-in.
            new.logged_in_at = self.row.logged_in_at
            new.address, new.user_agent = self.row.address, self.row.user_agent
        if self.address:
            new.address, new.user_agent = self.address, self.user_agent
        new.expire_date = min(new.expire_date, end_of(new))
        self.row = new
        return new

    def see(self) -> None:
        """Note that this log-in is in use; in the database once a minute at most.

        Of the data nothing is written, so that a request beside this one loses none of its own.
        """
        row, now = self.row, timezone.now()
        # Seen in the future, it was by a clock that has been corrected since: write it again.
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
    """Return when this session ends if nobody is seen from now on."""
    end = row.last_seen_at + timedelta(seconds=settings.LOGIN_IDLE_SECONDS)
    if row.user_id is None:
        return end
    return min(end, row.logged_in_at + timedelta(seconds=settings.LOGIN_LIFETIME_SECONDS))
