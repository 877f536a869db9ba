"""Periodic tasks: expired holds, monthly grants, and e-mails about credits."""

from celery import shared_task
from django.utils import timezone

from billing import credit_request_mails, grants, holds, spend_cap_alerts, warnings


@shared_task(name="billing.tasks.expire_holds")
def expire_holds() -> int:
    return holds.expire_holds(now=timezone.now())


@shared_task(name="billing.tasks.grant_monthly_credits")
def grant_monthly_credits() -> int:
    return grants.grant_monthly_credits(now=timezone.now())


@shared_task(name="billing.tasks.warn_of_low_balances")
def warn_of_low_balances() -> int:
    return warnings.warn_of_low_balances()


@shared_task(name="billing.tasks.alert_of_spend_caps")
def alert_of_spend_caps() -> int:
    return spend_cap_alerts.alert_of_spend_caps(now=timezone.now())


@shared_task(name="billing.tasks.mail_about_credit_requests")
def mail_about_credit_requests() -> int:
    return credit_request_mails.send_due()
