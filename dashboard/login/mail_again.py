"""Sends the verification e-mail again, after a sign-up or during a log-in."""

from __future__ import annotations

from allauth.account.internal.flows.email_verification import send_verification_email_at_login
from allauth.account.stages import EmailVerificationStage, LoginStageController
from django.contrib import messages
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from common.pages.requests import post_only


@post_only
def send_again(request: HttpRequest) -> HttpResponseRedirect:
    """Mail the link again, at most once a minute. A taken address gets the same e-mail as before.

    The session knows who is waiting, so the client never names an address.
    """
    stage = LoginStageController.enter(request, EmailVerificationStage.key)
    if stage is None:
        messages.info(request, _("Log in, and we send you another link."))
        return redirect("account_login")
    if send_verification_email_at_login(request, stage.login):
        messages.success(request, _("We are sending another e-mail."))
    else:
        messages.warning(
            request, _("We sent an e-mail a moment ago. Wait a minute, then try again.")
        )
    return redirect("account_email_verification_sent")
