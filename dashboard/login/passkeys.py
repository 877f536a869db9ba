"""The pages that ask for a passkey, to log in or again."""

from __future__ import annotations

from typing import Any

from allauth.mfa.webauthn.views import LoginWebAuthnView, ReauthenticateWebAuthnView
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from common import floods
from common.addresses import counted_as
from dashboard.login import events
from dashboard.login.forms import PasskeyAgainForm

# Of one address, which may be that of a whole office.
CHALLENGES_PER_MINUTE = 60


class PasskeyLogInView(LoginWebAuthnView):
    """allauth's view, except that strangers get a limited number of challenges.

    Each is a session, so they could fill the table.
    """

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        address = counted_as(floods.client_address(request))
        if not floods.is_within("passkeys", address, per_minute=CHALLENGES_PER_MINUTE):
            return events.handler429(request)
        response: HttpResponse = super().get(request, *args, **kwargs)
        return response


class PasskeyAgainView(ReauthenticateWebAuthnView):
    """allauth's view, except that it keeps the destination when it refuses a passkey."""

    def form_invalid(self, form: PasskeyAgainForm) -> HttpResponse:
        for words in form.errors.get("credential", []):
            messages.error(self.request, words)
        return HttpResponseRedirect(self.passthrough_next_url(self.request.path))


log_in = PasskeyLogInView.as_view()
reauthenticate = PasskeyAgainView.as_view()
