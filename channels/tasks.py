"""Periodic tasks: alerts to the staff, e-mails that people choose, and models that retire."""

import time

from celery import shared_task
from django.utils import timezone

from channels import alerts, model_mails, model_moves, outages, person_mails, provider_lists

_LISTS_SECONDS = 600.0


@shared_task(name="channels.tasks.alert_of_broken_routes")
def alert_of_broken_routes() -> int:
    return alerts.alert_of_broken_routes(now=timezone.now())


@shared_task(name="channels.tasks.tell_of_outages")
def tell_of_outages() -> int:
    return outages.tell_of_outages(now=timezone.now())


@shared_task(name="channels.tasks.send_person_mails")
def send_person_mails() -> int:
    return person_mails.send_due(now=timezone.now())


@shared_task(name="channels.tasks.retire_models")
def retire_models() -> int:
    now = timezone.now()
    count = model_moves.move_from_retired_models(now=now)
    model_mails.send_model_mails(now=now)
    return count


@shared_task(name="channels.tasks.fetch_model_lists")
def fetch_model_lists() -> int:
    """Fetch every provider's list of its models. Returns how many could be fetched."""
    deadline = time.monotonic() + _LISTS_SECONDS
    return sum(not error for error in provider_lists.fetch_lists(deadline=deadline).values())
