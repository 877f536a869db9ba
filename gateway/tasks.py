"""The worker's sign of life, the nightly proof of the books, the end of log-ins that ran out."""

from celery import shared_task
from django.core.management import call_command

from gateway import heartbeat, verification


@shared_task(name="gateway.tasks.verify_ledger")
def verify_ledger() -> int:
    return verification.verify_and_alert()


@shared_task(name="gateway.tasks.clear_log_ins")
def clear_log_ins() -> None:
    call_command("clearsessions")


@shared_task(name="gateway.tasks.beat")
def beat() -> None:
    heartbeat.beat()
