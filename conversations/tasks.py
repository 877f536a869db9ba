"""Periodic tasks: clean up sessions, roll up usage, and write owners' digests."""

from celery import shared_task
from django.utils import timezone

from conversations import digests
from conversations.archive import account_end, retention
from conversations.usage import rollup


@shared_task(name="conversations.tasks.expire_sessions")
def expire_sessions() -> tuple[int, int]:
    now = timezone.now()
    account_end.erase_all_closed(now=now)
    return retention.expire_stale_sessions(now=now)


@shared_task(name="conversations.tasks.roll_up_usage")
def roll_up_usage() -> int:
    return rollup.roll_up(now=timezone.now())


@shared_task(name="conversations.tasks.mend_rollups")
def mend_rollups() -> int:
    return rollup.mend(now=timezone.now())


@shared_task(name="conversations.tasks.write_digests")
def write_digests() -> int:
    return digests.write_digests(now=timezone.now())
