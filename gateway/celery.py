"""The Celery application, for clean-up and rollups. Correctness never depends on it."""

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery, signals
from celery.schedules import crontab
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import SystemCheckError

from common.commands import ScriptCommand

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
try:
    _ = settings.DATA_DIR
except ImproperlyConfigured as error:
    # A worker with an invalid setting stops like a command, without a traceback.
    raise SystemExit(str(error)) from None


def broker_settings(url: str) -> dict[str, object]:
    """Return Celery's settings for a broker URL. Without one, files under DATA_DIR are used."""
    if url:
        return {"broker_url": url, "broker_connection_retry_on_startup": True}
    folder = settings.DATA_DIR / "celery"
    for name in ("queue", "processed", "control"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            # The same folder for both directions, because workers read what is sent.
            "data_folder_in": str(folder / "queue"),
            "data_folder_out": str(folder / "queue"),
            "processed_folder": str(folder / "processed"),
            "control_folder": str(folder / "control"),
            "store_processed": False,
        },
    }


app = Celery("gateway")
app.conf.update(
    task_ignore_result=True,
    task_always_eager=getattr(settings, "CELERY_TASK_ALWAYS_EAGER", False),
    timezone="UTC",
    worker_hijack_root_logger=False,
    task_acks_late=True,
    beat_scheduler="gateway.schedule:Schedule",
    beat_schedule_filename=str(settings.DATA_DIR / "celerybeat-schedule"),
    beat_schedule={
        # common/heartbeat.py says what the beat is used for.
        "report that the worker is alive": {"task": "gateway.tasks.beat", "schedule": 60.0},
        "expire holds": {"task": "billing.tasks.expire_holds", "schedule": 60.0},
        "warn about low balances": {"task": "billing.tasks.warn_of_low_balances", "schedule": 60.0},
        "alert of spend caps": {"task": "billing.tasks.alert_of_spend_caps", "schedule": 60.0},
        "mail about credit requests": {
            "task": "billing.tasks.mail_about_credit_requests",
            "schedule": 60.0,
        },
        "send the e-mails that people chose": {
            "task": "channels.tasks.send_person_mails",
            "schedule": 60.0,
        },
        "tell of outages": {"task": "channels.tasks.tell_of_outages", "schedule": 60.0},
        "write daily digests": {"task": "conversations.tasks.write_digests", "schedule": 600.0},
        "report broken routes": {
            "task": "channels.tasks.alert_of_broken_routes",
            "schedule": 60.0,
        },
        # As often as e-mails, so that a last day that staff set for today does not come a day late.
        "retire models": {"task": "channels.tasks.retire_models", "schedule": 600.0},
        "grant monthly credits": {
            "task": "billing.tasks.grant_monthly_credits",
            "schedule": 3600.0,
        },
        "verify the ledger": {
            "task": "gateway.tasks.verify_ledger",
            "schedule": crontab(hour=3, minute=17),
        },
        "delete expired logins": {
            "task": "gateway.tasks.clear_log_ins",
            "schedule": crontab(hour=3, minute=37),
        },
        "fetch model lists": {
            "task": "channels.tasks.fetch_model_lists",
            "schedule": crontab(hour=4, minute=17),
        },
        "roll up usage": {"task": "conversations.tasks.roll_up_usage", "schedule": 600.0},
        "correct rollups": {
            "task": "conversations.tasks.mend_rollups",
            "schedule": crontab(hour=3, minute=57),
        },
        "expire sessions": {"task": "conversations.tasks.expire_sessions", "schedule": 600.0},
    },
    **broker_settings(settings.CELERY_BROKER_URL),
)
app.autodiscover_tasks()


@signals.worker_init.connect  # type: ignore[untyped-decorator]  # the library has no types
def refuse_a_broken_installation(**kwargs: Any) -> None:
    """Run the checks that commands run before they write. Celery's own omit the database."""
    command = ScriptCommand()
    try:
        command.check(**command.get_check_kwargs({}))
    except SystemCheckError as error:
        print(error, file=sys.stderr)
        # Celery would log every other exception raised here and go on.
        raise SystemExit(1) from None
