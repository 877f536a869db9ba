"""Periodic cleaning of holds."""

from celery import shared_task
from django.utils import timezone

from billing import services


@shared_task(name="billing.tasks.expire_holds")
def expire_holds() -> int:
    return services.expire_holds(now=timezone.now())
