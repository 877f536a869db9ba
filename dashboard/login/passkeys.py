"""The page that asks again for a passkey."""

from __future__ import annotations

from allauth.mfa.webauthn.views import ReauthenticateWebAuthnView
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect

from dashboard.login.forms import PasskeyAgainForm


class PasskeyAgainView(ReauthenticateWebAuthnView):
    """allauth's view, except that it keeps the destination when it refuses a passkey."""

    def form_invalid(self, form: PasskeyAgainForm) -> HttpResponse:
        for words in form.errors.get("credential", []):
            messages.error(self.request, words)
        return HttpResponseRedirect(self.passthrough_next_url(self.request.path))


reauthenticate = PasskeyAgainView.as_view()
