"""The worker's heartbeat, the nightly ledger check, and the deletion of old log-ins and counts."""

from celery import shared_task
from django.core.management import call_command
from django.utils import timezone

from channels import daily_counts, key_uses
from common import heartbeat
from dashboard.login import devices
from gateway import verification


@shared_task(name="gateway.tasks.verify_ledger")
def verify_ledger() -> int:
    return verification.verify_and_alert()


@shared_task(name="gateway.tasks.clear_log_ins")
def clear_log_ins() -> None:
    call_command("clearsessions")
    daily_counts.forget_earlier_days()
    key_uses.forget_old_hours()
    devices.forget_unused(now=timezone.now())


@shared_task(name="gateway.tasks.beat")
def beat() -> None:
    heartbeat.beat()
