"""Periodic tasks: alerts to the staff, and models that retire."""

from celery import shared_task
from django.utils import timezone

from channels import alerts, model_mails, model_moves


@shared_task(name="channels.tasks.alert_of_broken_routes")
def alert_of_broken_routes() -> int:
    return alerts.alert_of_broken_routes(now=timezone.now())


@shared_task(name="channels.tasks.retire_models")
def retire_models() -> int:
    now = timezone.now()
    count = model_moves.move_from_retired_models(now=now)
    model_mails.send_model_mails(now=now)
    return count
