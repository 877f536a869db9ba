"""Periodic tasks: clean up sessions, and roll up usage."""

from celery import shared_task
from django.utils import timezone

from conversations import retention, rolling


@shared_task(name="conversations.tasks.expire_sessions")
def expire_sessions() -> tuple[int, int]:
    return retention.expire_stale_sessions(now=timezone.now())


@shared_task(name="conversations.tasks.roll_up_usage")
def roll_up_usage() -> int:
    return rolling.roll_up(now=timezone.now())


@shared_task(name="conversations.tasks.mend_rollups")
def mend_rollups() -> int:
    return rolling.mend(now=timezone.now())
