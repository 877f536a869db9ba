"""The nightly proof of the books, and the end of log-ins that have run out."""

from celery import shared_task
from django.core.management import call_command

from gateway import verification


@shared_task(name="gateway.tasks.verify_ledger")
def verify_ledger() -> int:
    return verification.verify_and_alert()


@shared_task(name="gateway.tasks.clear_log_ins")
def clear_log_ins() -> None:
    call_command("clearsessions")
