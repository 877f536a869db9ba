"""Another mail for who waits for the first: of a sign-up, or of a log-in that proves an address."""

from __future__ import annotations

from allauth.account.internal.flows.email_verification import send_verification_email_at_login
from allauth.account.stages import EmailVerificationStage, LoginStageController
from django.contrib import messages
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect

from common.pages import post_only


@post_only
def send_again(request: HttpRequest) -> HttpResponseRedirect:
    """Mail the link again, once a minute at most; to an address that is taken, what it got before.

    The browser knows who waits: nobody names an address here.
    """
    stage = LoginStageController.enter(request, EmailVerificationStage.key)
    if stage is None:
        messages.info(request, "Log in, and another link is sent.")
        return redirect("account_login")
    if send_verification_email_at_login(request, stage.login):
        messages.success(request, "Another mail was asked for.")
    else:
        messages.warning(request, "A mail was sent a moment ago. Wait a minute, then try again.")
    return redirect("account_email_verification_sent")
