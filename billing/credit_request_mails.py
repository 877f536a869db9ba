"""E-mails about requests for credits: a new one to the staff, the decision to the person who asked.

A periodic task sends them, never a page, so a mail server that is down costs a minute's delay.
"""

from __future__ import annotations

import logging

from django.conf import settings
from django.core.mail import send_mail
from django.utils.translation import gettext as _

from billing.models import CreditRequest
from channels import alerts
from channels.models import Membership
from common import languages
from common.pages.numbers import local_credits
from common.text import one_line

logger = logging.getLogger("gateway.billing")

State, Mail = CreditRequest.State, CreditRequest.Mail


def send_due() -> int:
    """Send each e-mail that is due, once. Returns how many were sent."""
    due = CreditRequest.objects.exclude(unsent_mail=Mail.NONE)
    return sum(map(_send, due.select_related("account", "asked_by").order_by("id")))


def _send(request: CreditRequest) -> bool:
    """Mark the e-mail as sent and send it. If that fails, unmark it for the next run."""
    row = CreditRequest.objects.filter(id=request.id)
    # Of two tasks at once, only one changes the row, and only that one sends.
    if not row.filter(unsent_mail=request.unsent_mail, state=request.state).update(
        unsent_mail=Mail.NONE
    ):
        return False
    is_to_staff = request.unsent_mail == Mail.TO_STAFF
    people = alerts.contacts() if is_to_staff else _find_askers(request)
    try:
        for language, addresses in languages.group_by_language(people).items():
            with languages.speaking(language):
                subject, text = _of_new_request(request) if is_to_staff else _of_decision(request)
                send_mail(one_line(subject), text, None, addresses)
    except OSError as error:
        # A decision that was made meanwhile has its own e-mail.
        row.filter(unsent_mail=Mail.NONE, state=request.state).update(
            unsent_mail=request.unsent_mail
        )
        logger.warning("billing.request_mail.not_sent", extra={"reason": str(error)})
        return False
    logger.info("billing.request_mail.sent", extra={"account": request.account_id})
    return True


def _find_askers(request: CreditRequest) -> list[tuple[str, str]]:
    """Return the address and language of whoever asked, or of all owners if they are none now."""
    owners = Membership.objects.filter(account_id=request.account_id, role=Membership.Role.OWNER)
    asker = owners.filter(user=request.asked_by)
    people = asker if asker.exists() else owners
    return list(people.values_list("user__email", "user__language"))


def _of_new_request(request: CreditRequest) -> tuple[str, str]:
    named = {
        "asker": request.asked_by.email if request.asked_by else "",
        "amount": local_credits(request.amount_microcredits),
        "account": request.account.name,
    }
    if request.asked_by:
        said = _("%(asker)s asks for %(amount)s credits for the account “%(account)s”.")
    else:
        said = _("An owner asks for %(amount)s credits for the account “%(account)s”.")
    parts = [said % named]
    if request.note:
        parts.append(_("Their note:") + f"\n{request.note}")
    page = _link("/admin/credits/requests/")
    parts.append(_("Approve or decline the request: %(page)s") % {"page": page})
    return _("Credit request: %(account)s") % named, "\n\n".join(parts)


def _of_decision(request: CreditRequest) -> tuple[str, str]:
    named = {
        "account": request.account.name,
        "asked": local_credits(request.amount_microcredits),
        "granted": local_credits(request.granted_microcredits or 0),
    }
    asked = _("You asked for %(asked)s credits for the account “%(account)s”.")
    if request.state == State.APPROVED:
        subject = _("Credit request approved: %(account)s")
        outcome = _("The request was approved: %(granted)s credits have been added.")
    else:
        subject = _("Credit request declined: %(account)s")
        outcome = _("The request was declined.")
    parts = [f"{asked % named} {outcome % named}"]
    if request.decision_reason:
        parts.append(_("Reason: %(reason)s") % {"reason": request.decision_reason})
    page = _link(f"/a/{request.account_id}/credits/")
    parts.append(_("The account's credits: %(page)s") % {"page": page})
    return subject % named, "\n\n".join(parts)


def _link(path: str) -> str:
    """Return a page's address. A worker has no request to take the host from."""
    return f"{settings.PUBLIC_URL}{path}"
