"""“Set up a provider”: choose one, enter its key, see the test, and only then save."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import provider_setup
from channels.models import LanguageModel, Provider, Route
from channels.provider_setup import PRESETS, Preset, Trial
from common.pages.forms import LabelledForm
from dashboard.staff.pages import actor_of, render_staff_page, staff_page, staff_url

NAMES_OFFERED = 500
LONGEST_KEY = 1_000


class ProviderSetupForm(LabelledForm):
    """A provider, its key, and optionally a model of the gateway that it serves."""

    name = forms.SlugField(
        label=gettext_lazy("Name"),
        max_length=50,
        help_text=gettext_lazy("Callers see it in X-Gateway-Provider."),
    )
    base_url = forms.CharField(
        max_length=200,
        label=gettext_lazy("Address"),
        help_text=Provider._meta.get_field("base_url").help_text,
    )
    key = forms.CharField(
        required=False,
        max_length=LONGEST_KEY,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        label=gettext_lazy("API key"),
        help_text=gettext_lazy(
            "Stored encrypted and never shown again. Leave empty if the provider needs none."
        ),
    )
    provider_model = forms.CharField(
        required=False,
        max_length=200,
        label=gettext_lazy("Model to test"),
        widget=forms.TextInput(attrs={"autocomplete": "off", "list": "gw-served"}),
        help_text=gettext_lazy(
            "Its name at the provider. Leave empty to fetch the list of models first."
        ),
    )
    serves = forms.ChoiceField(
        required=False,
        label=gettext_lazy("Use it for"),
        help_text=gettext_lazy(
            "Adds a route: the gateway asks the model named above, after all other routes. "
            "Without one, no request reaches the provider."
        ),
    )
    tested = forms.CharField(required=False, widget=forms.HiddenInput)
    skips_test = forms.BooleanField(required=False, label=gettext_lazy("Save without a test"))

    def __init__(self, *args: Any, preset: Preset | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        if preset and provider_setup.must_enter_key(preset):
            self.fields["key"].required = True
            self.fields["key"].help_text = _("Stored encrypted and never shown again.")
        enabled = LanguageModel.objects.filter(is_enabled=True)
        self._models = {str(model.pk): model for model in enabled}
        names = [(pk, model.name) for pk, model in self._models.items()]
        self.fields["serves"].choices = [("", _("No model yet")), *names]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        data["serves"] = self._models.get(data.get("serves", ""))
        if data["serves"] and not data.get("provider_model"):
            self.add_error("provider_model", _("Name the model that the gateway should ask."))
        if data.get("name") and data.get("base_url"):
            self._find_provider(data)
        return data

    def _find_provider(self, data: dict[str, Any]) -> None:
        """Set `provider`: a new one, or the one of this name, which must have this address.

        Otherwise its stored key would be sent somewhere else.
        """
        self.provider = Provider(name=data["name"], base_url=data["base_url"])
        known = Provider.objects.filter(name=data["name"]).first()
        if known and known.base_url != data["base_url"]:
            self.add_error(
                "name",
                _("%(name)s exists, with the address %(address)s.")
                % {"name": known.name, "address": known.base_url},
            )
        elif known:
            self.provider = known
        try:
            self.provider.full_clean(exclude=["key_ciphertext", "encryption_key_id"])
        except ValidationError as error:
            for name, words in error.message_dict.items():
                self.add_error(name if name in self.fields else None, words)

    def suggest_model(self) -> None:
        """Choose the model of the tested name, if none is chosen."""
        tested = self.cleaned_data["provider_model"].rpartition("/")[2]
        same = [pk for pk, model in self._models.items() if model.model_id == tested]
        if same and not self.cleaned_data["serves"]:
            self.data = {**self.data, "serves": same[0]}

    def proof(self, request: HttpRequest) -> str:
        """Return what shows that this person saw a test of just this address, key, and model."""
        data = self.cleaned_data
        seen = [data[name] for name in ("name", "base_url", "key", "provider_model")]
        return salted_hmac("provider wizard", json.dumps([request.user.pk, *seen])).hexdigest()


@staff_page("channels.add_provider")
def set_up(request: HttpRequest) -> HttpResponseBase:
    """Show the choice or the form. On POST, test what was entered, or save it."""
    if not request.user.is_superuser:
        raise PermissionDenied(_("Only superusers decide where visitors' texts and keys go."))
    preset = PRESETS.get(request.GET.get("preset", ""))
    if request.method != "POST":
        return _render(request, preset, ProviderSetupForm(initial=_initial(preset), preset=preset))
    form = ProviderSetupForm(request.POST, preset=preset)
    if not form.is_valid():
        # The browser puts a test's answer into the page only if it is not an error.
        return _render(request, preset, form, status=200 if "test" in request.POST else 422)
    data = form.cleaned_data
    if "test" in request.POST:
        trial = provider_setup.try_out(
            provider=form.provider, clear_key=data["key"], provider_model=data["provider_model"]
        )
        if trial.result and not trial.result.reason:
            form.suggest_model()
        return _render(request, preset, form, trial=trial, proof=form.proof(request))
    if not (data["skips_test"] or constant_time_compare(data["tested"], form.proof(request))):
        form.add_error(
            None, _("Test this first: something changed since the last test, or none ran.")
        )
        return _render(request, preset, form, status=422)
    return _save(request, form)


def _initial(preset: Preset | None) -> dict[str, str]:
    if preset is None or preset.name == "custom":
        return {}
    return {"name": preset.name, "base_url": preset.base_url}


def _render(
    request: HttpRequest,
    preset: Preset | None,
    form: ProviderSetupForm,
    *,
    status: int = 200,
    trial: Trial | None = None,
    proof: str = "",
) -> HttpResponseBase:
    names = Provider.objects.values_list("name", flat=True)
    return render_staff_page(
        request,
        "provider_wizard.html",
        title=_("Set up a provider"),
        status=status,
        presets=[{"preset": one, "is_known": one.name in set(names)} for one in PRESETS.values()],
        chosen=preset,
        form=form if preset or form.is_bound else None,
        trial=trial,
        result=trial.result if trial else None,
        served=trial.names[:NAMES_OFFERED] if trial else [],
        proof=proof,
        route=Route(provider_model=form.data.get("provider_model", "")),
    )


def _save(request: HttpRequest, form: ProviderSetupForm) -> HttpResponseBase:
    data = form.cleaned_data
    provider_setup.save(
        provider=form.provider,
        clear_key=data["key"],
        model=data["serves"],
        provider_model=data["provider_model"],
        actor=actor_of(request),
    )
    said = _("%(provider)s is set up.") % {"provider": form.provider.name}
    if data["serves"]:
        said += " " + _("It serves %(model)s.") % {"model": data["serves"].name}
    messages.success(request, said)
    if not form.provider.routes.exists():
        messages.warning(request, _answers_nothing(form))
    return redirect(staff_url("channels_provider_changelist"))


def _answers_nothing(form: ProviderSetupForm) -> SafeString:
    """Return the words for a provider without a route, with a link that adds one."""
    name = form.cleaned_data["provider_model"]
    query = urlencode({"provider": form.provider.pk, "provider_model": name})
    words = _("No request reaches %(provider)s yet, because no route leads to it.")
    return format_html(
        '{} <a class="gw-link" href="{}?{}">{}</a>',
        words % {"provider": form.provider.name},
        staff_url("channels_route_add"),
        query,
        _("Add a route"),
    )
