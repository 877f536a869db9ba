"""The nightly proof of the books."""

from celery import shared_task

from gateway import verification


@shared_task(name="gateway.tasks.verify_ledger")
def verify_ledger() -> int:
    return verification.verify_and_alert()
