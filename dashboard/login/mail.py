"""The e-mails that the gateway itself sends, not allauth."""

from __future__ import annotations

import logging
import smtplib

from django.conf import settings
from django.core.mail import EmailMessage
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _

from channels.models import Invitation, User
from channels.person_mails import ROLES
from common import languages
from common.text import one_line
from dashboard.public_address import site_url

logger = logging.getLogger("gateway.accounts")


def invitation_link(request: HttpRequest, secret: str) -> str:
    """Return the link for an invitation's e-mail."""
    return site_url(request) + reverse("join_link", args=[secret])


def send_invitation(request: HttpRequest, invitation: Invitation, secret: str) -> bool:
    """Mail the link to the invited address. Returns False if the mail server refuses it."""
    invited = User.objects.filter(email__iexact=invitation.email).first()
    # Whoever has no login yet reads the language of the colleague who invites them.
    language = invited.language if invited else languages.current()
    with languages.speaking(language):
        subject, text = _write(request, invitation, secret)
    inviter = [invitation.invited_by.email] if invitation.invited_by else []
    mail = EmailMessage(subject, text, to=[invitation.email], reply_to=inviter)
    try:
        mail.send()
    except (smtplib.SMTPException, OSError) as error:
        # Log only the kind of error: some servers quote the e-mail.
        logger.warning("member.invitation.not_sent", extra={"reason": type(error).__name__})
        return False
    return True


def _write(request: HttpRequest, invitation: Invitation, secret: str) -> tuple[str, str]:
    account = one_line(invitation.account.name)
    text = render_to_string(
        "emails/invitation.txt",
        {
            "invitation": invitation,
            "role": ROLES[invitation.role],
            "account": account,
            "link": invitation_link(request, secret),
            "site_name": settings.SITE_NAME,
        },
    )
    named = {"site": settings.SITE_NAME, "account": account}
    return _("%(site)s: you are invited to %(account)s") % named, text
