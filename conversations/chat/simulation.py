"""X-Simulate: produces every error a caller must handle, on demand and free, for a test key."""

from __future__ import annotations

from django.utils import timezone

from billing import spend_caps
from billing.errors import CreditsExhausted, DailyQuotaReached, SpendCapReached
from channels.callers import Caller
from common.errors import ApiError, InvalidRequest, RateLimited, SiteDisabled

SIMULATED_RETRY_AFTER_SECONDS = 30
PROVIDER_BEHAVIOURS = ("provider_error", "slow", "midstream_error")
REFUSALS = (
    "rate_limited",
    "daily_quota_reached",
    "spend_cap_reached",
    "credits_exhausted",
    "site_disabled",
)


def read_simulation(caller: Caller, header: str) -> str:
    """Return how the provider should behave ('' for as usual), or raise the requested refusal.

    Only a test key can simulate. A live key's header is ignored. Raises InvalidRequest for an
    unknown word.
    """
    if not caller.is_test:
        return ""
    if header in PROVIDER_BEHAVIOURS:
        return header
    if header in REFUSALS:
        raise _refusal(header, caller)
    known = ", ".join((*REFUSALS, *PROVIDER_BEHAVIOURS))
    raise InvalidRequest(fields={"X-Simulate": f"Must be one of {known}."})


def _refusal(code: str, caller: Caller) -> ApiError:
    if code == "rate_limited":
        return RateLimited(
            "Simulated: this channel's requests for this minute are used up.",
            retry_after=SIMULATED_RETRY_AFTER_SECONDS,
        )
    if code == "daily_quota_reached":
        return DailyQuotaReached(
            quota=caller.daily_quota, calendar=caller.calendar, now=timezone.now()
        )
    if code == "spend_cap_reached":
        period = spend_caps.period_of(caller.calendar, timezone.now())
        return SpendCapReached(resets_at=period.day.ends_at, zone=caller.calendar.day.zone)
    return CreditsExhausted() if code == "credits_exhausted" else SiteDisabled()
