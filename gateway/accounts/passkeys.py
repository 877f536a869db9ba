"""Asking again by a passkey."""

from __future__ import annotations

from allauth.mfa.webauthn.views import ReauthenticateWebAuthnView
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect

from gateway.accounts.forms import PasskeyAgainForm


class PasskeyAgainView(ReauthenticateWebAuthnView):
    """allauth's, which leads whoever is refused away from where they wanted to go."""

    def form_invalid(self, form: PasskeyAgainForm) -> HttpResponse:
        for words in form.errors.get("credential", []):
            messages.error(self.request, words)
        return HttpResponseRedirect(self.passthrough_next_url(self.request.path))


reauthenticate = PasskeyAgainView.as_view()
