"""Periodic cleaning of sessions."""

from celery import shared_task
from django.utils import timezone

from conversations import services


@shared_task(name="conversations.tasks.expire_sessions")
def expire_sessions() -> tuple[int, int]:
    return services.expire_stale_sessions(now=timezone.now())
