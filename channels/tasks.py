"""Periodic tasks that alert the staff."""

from celery import shared_task
from django.utils import timezone

from channels import alerts


@shared_task(name="channels.tasks.alert_of_broken_routes")
def alert_of_broken_routes() -> int:
    return alerts.alert_of_broken_routes(now=timezone.now())
