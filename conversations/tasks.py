"""Periodic cleaning of sessions."""

from celery import shared_task
from django.utils import timezone

from conversations import retention


@shared_task(name="conversations.tasks.expire_sessions")
def expire_sessions() -> tuple[int, int]:
    return retention.expire_stale_sessions(now=timezone.now())
