"""What entries of the audit log say: their actions and the fields that changed.

Entries are stored with codes. Their words are formed from the codes in English, and translated.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext, gettext_lazy, gettext_noop

from channels.models import ApiKey, Membership
from common.pages.numbers import in_local_signs

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

# The code has an older name for saved replies. The service and the admin spell it differently.
_SAVED_REPLY = ("fixed_answer", "fixedanswer")

# For translators. Other actions and fields stay English.
_ACTIONS = (
    gettext_noop("Account created"),
    gettext_noop("Account deleted"),
    gettext_noop("Account erased"),
    gettext_noop("Account exported"),
    gettext_noop("Account renamed"),
    gettext_noop("Account second factor optional"),
    gettext_noop("Account second factor required"),
    gettext_noop("Account time zone changed"),
    gettext_noop("Account updated"),
    gettext_noop("Account key issued"),
    gettext_noop("Account key revoked"),
    gettext_noop("Apikey updated"),
    gettext_noop("Channel created"),
    gettext_noop("Channel deleted"),
    gettext_noop("Channel model moved"),
    gettext_noop("Channel model moved back"),
    gettext_noop("Channel moved"),
    gettext_noop("Channel retired"),
    gettext_noop("Channel spend cap changed"),
    gettext_noop("Channel updated"),
    gettext_noop("Checklist dismissed"),
    gettext_noop("Codes made"),
    gettext_noop("Credits adjusted"),
    gettext_noop("Credits granted"),
    gettext_noop("Credits request approved"),
    gettext_noop("Credits request declined"),
    gettext_noop("Credits request withdrawn"),
    gettext_noop("Credits requested"),
    gettext_noop("Credits warning changed"),
    gettext_noop("Email change requested"),
    gettext_noop("Email change withdrawn"),
    gettext_noop("Email changed"),
    gettext_noop("Saved reply added"),
    gettext_noop("Saved reply deleted"),
    gettext_noop("Saved reply imported"),
    gettext_noop("Saved reply updated"),
    gettext_noop("Key copied"),
    gettext_noop("Key issued"),
    gettext_noop("Key revealed"),
    gettext_noop("Key revoked"),
    gettext_noop("Key rotated"),
    gettext_noop("Key spend cap changed"),
    gettext_noop("Key updated"),
    gettext_noop("Login confirmation failed"),
    gettext_noop("Login confirmed"),
    gettext_noop("Login ended"),
    gettext_noop("Login failed"),
    gettext_noop("Login limited"),
    gettext_noop("Logged in"),
    gettext_noop("Mails chosen"),
    gettext_noop("Member invitation declined"),
    gettext_noop("Member invitation withdrawn"),
    gettext_noop("Member invited"),
    gettext_noop("Member invited again"),
    gettext_noop("Member joined"),
    gettext_noop("Member left"),
    gettext_noop("Member removed"),
    gettext_noop("Member role changed"),
    gettext_noop("Password changed"),
    gettext_noop("Password reset"),
    gettext_noop("Password set"),
    gettext_noop("Password set by staff"),
    gettext_noop("Person signed up"),
    gettext_noop("Second factor added"),
    gettext_noop("Second factor removed"),
    gettext_noop("Second factor removed by staff"),
    gettext_noop("Session all ended"),
    gettext_noop("Session ended"),
    gettext_noop("Session erased"),
    gettext_noop("Staff read text"),
    gettext_noop("Staff viewed account"),
    gettext_noop("Team invited"),
    gettext_noop("User updated"),
)
_FIELDS = (
    gettext_noop("account"),
    gettext_noop("allowed addresses"),
    gettext_noop("allowed models"),
    gettext_noop("answer"),
    gettext_noop("balance"),
    gettext_noop("day"),
    gettext_noop("expires at"),
    gettext_noop("external id"),
    gettext_noop("factor"),
    gettext_noop("fallback model"),
    gettext_noop("fallback replies"),
    gettext_noop("has local quota"),
    gettext_noop("is enabled"),
    gettext_noop("keys revoked"),
    gettext_noop("limit"),
    gettext_noop("low balance"),
    gettext_noop("max answer tokens"),
    gettext_noop("members"),
    gettext_noop("messages erased"),
    gettext_noop("mode"),
    gettext_noop("model"),
    gettext_noop("month"),
    gettext_noop("name"),
    gettext_noop("plan"),
    gettext_noop("prompt version"),
    gettext_noop("question"),
    gettext_noop("reason"),
    gettext_noop("requests per minute"),
    gettext_noop("credits a day"),
    gettext_noop("credits a month"),
    gettext_noop("daily quota"),
    gettext_noop("other wordings"),
    gettext_noop("tags"),
    gettext_noop("requires second factor"),
    gettext_noop("role"),
    gettext_noop("site url"),
    gettext_noop("stop words"),
    gettext_noop("system prompt"),
    gettext_noop("temperature"),
    gettext_noop("time zone"),
    gettext_noop("turns"),
    gettext_noop("amount"),
    gettext_noop("at"),
    gettext_noop("device"),
    gettext_noop("email"),
    gettext_noop("mails digests"),
    gettext_noop("mails new devices"),
    gettext_noop("mails new keys"),
    gettext_noop("mails new members"),
    gettext_noop("mails outages"),
    gettext_noop("sessions"),
    gettext_noop("to"),
    gettext_noop("user"),
    gettext_noop("warn below"),
    gettext_noop("with"),
)
_WAYS: dict[str, StrOrPromise] = {
    "code": gettext_lazy("Code"),
    "mfa": gettext_lazy("Second factor"),
    "passkey": gettext_lazy("Passkey"),
    "password": gettext_lazy("Password"),
    "recovery": gettext_lazy("Recovery codes"),
    "recovery_codes": gettext_lazy("Recovery codes"),
    "totp": gettext_lazy("Authenticator app"),
    "webauthn": gettext_lazy("Passkey"),
}
_SWITCH: dict[str, StrOrPromise] = {"on": gettext_lazy("On"), "off": gettext_lazy("Off")}
_AMOUNT: dict[str, StrOrPromise] = {"no limit": gettext_lazy("No limit")}
# The fields whose values are the gateway's codes or amounts. In others, people may have written the
# same words.
_VALUES: dict[str, dict[str, StrOrPromise]] = {
    "amount": _AMOUNT,
    "balance": _AMOUNT,
    "by": _WAYS,
    "credits a day": _AMOUNT,
    "credits a month": _AMOUNT,
    "factor": _WAYS,
    "mails_digests": _SWITCH,
    "mails_new_devices": _SWITCH,
    "mails_new_keys": _SWITCH,
    "mails_new_members": _SWITCH,
    "mails_outages": _SWITCH,
    "mode": dict(ApiKey.Mode.choices),
    "role": dict(Membership.Role.choices),
    "temperature": _AMOUNT,
    "warn below": _AMOUNT,
}
_NUMBER = re.compile(r"-?[0-9,]+(\.[0-9]+)?")


def words_of(action: str) -> str:
    """Return “Saved reply added” for fixed_answer.added."""
    subject, _, what = action.partition(".")
    subject = "saved reply" if subject in _SAVED_REPLY else subject
    if action == "login.succeeded":
        return _translated("Logged in")
    return _translated(f"{subject} {what}".replace("_", " ").strip().capitalize())


def words_of_field(field: str) -> str:
    """Return “fallback model” for fallback_model."""
    if field == "by":  # of log-ins, with a password, say
        return _translated("with")
    return _translated(field.replace("_", " "))


def words_of_value(field: str, value: Any) -> str:
    """Return “Editor” for the role `editor`. A log-in by two ways names both."""
    known, text = _VALUES.get(field), str(value)
    if known is None:
        return text
    if known is _AMOUNT and _NUMBER.fullmatch(text):
        return in_local_signs(text)
    return ", ".join(str(known.get(one, one)) for one in text.split(", "))


def _translated(words: str) -> str:
    # An empty text stands for the head of a catalogue.
    return gettext(words) if words else ""
