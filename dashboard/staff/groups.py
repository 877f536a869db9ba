"""Ready-made groups for the staff, so that not everybody has to be a superuser."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import Group, Permission
from django.db import transaction

# What people wrote. Reading it needs a reason, and those who only audit the ledger may not.
_TEXTS = ("message", "promptversion", "feedback", "fixedanswer", "wording")

GROUPS: dict[str, tuple[str, ...]] = {
    # Finds an account, looks at it as its owner, reads conversations with a reason, disables an
    # account, revokes a key.
    "Support": (
        "channels.view_account", "channels.change_account", "channels.view_user",
        "channels.view_membership", "channels.view_invitation", "channels.view_channel",
        "channels.change_channel", "channels.view_apikey", "channels.change_apikey",
        "channels.view_accountkey", "channels.change_accountkey",
        "channels.view_fixedanswer", "channels.view_promptversion", "channels.view_auditentry",
        "channels.view_plan", "billing.view_creditaccount", "billing.view_ledgerentry",
        "billing.view_dailyusage", "billing.view_creditrequest", "conversations.view_chatsession",
        "conversations.view_message", "conversations.view_failedrequest",
        "conversations.view_replayedrequest", "conversations.view_feedback",
    ),
    # Finds an account by its people, books credits, decides on requests for them, creates codes,
    # maintains plans, sees margins.
    "Billing": (
        "channels.view_account", "channels.change_account", "channels.view_membership",
        "channels.view_plan",
        "channels.add_plan", "channels.change_plan", "billing.view_creditaccount",
        "billing.view_ledgerentry", "billing.add_ledgerentry", "billing.view_creditgrant",
        "billing.view_hold", "billing.view_dailyusage", "billing.view_redemptioncode",
        "billing.add_redemptioncode", "billing.change_redemptioncode",
        "billing.view_verificationrun", "billing.add_verificationrun",
        "billing.view_creditrequest", "billing.change_creditrequest",
        "channels.view_margins", "channels.view_costprice", "channels.view_creditprice",
        "channels.add_creditprice", "channels.change_creditprice",
    ),
    # Maintains models, prices, costs, and routes. A new provider stays off until a superuser
    # enables it.
    "Catalogue": (
        "channels.view_languagemodel", "channels.add_languagemodel",
        "channels.change_languagemodel", "channels.view_provider", "channels.add_provider",
        "channels.change_provider", "channels.view_route", "channels.add_route",
        "channels.change_route", "channels.delete_route", "channels.view_routehealth",
        "channels.view_costprice", "channels.add_costprice", "channels.change_costprice",
        "billing.view_verificationrun",
    ),
}  # fmt: skip
# Reads everything except what people wrote, and changes nothing.
AUDITOR = "Auditor"
_OUR_APPS = ("channels", "billing", "conversations")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one group."""

    name: str
    is_new: bool
    permission_count: int


@transaction.atomic
def make_groups(*, reset: bool = False) -> list[Outcome]:
    """Create the missing groups. Existing ones stay as the operator changed them.

    With `reset`, existing groups get exactly the permissions listed here.
    """
    outcomes = []
    for name in (*GROUPS, AUDITOR):
        group, is_new = Group.objects.get_or_create(name=name)
        if is_new or reset:
            group.permissions.set(_permissions(name))
        outcomes.append(Outcome(name, is_new, group.permissions.count()))
    return outcomes


def _permissions(name: str) -> list[Permission]:
    ours = Permission.objects.filter(content_type__app_label__in=_OUR_APPS)
    if name == AUDITOR:
        texts = [f"view_{model}" for model in _TEXTS]
        return list(ours.filter(codename__startswith="view_").exclude(codename__in=texts))
    by_label = {
        f"{one.content_type.app_label}.{one.codename}": one
        for one in ours.select_related("content_type")
    }
    return [by_label[label] for label in GROUPS[name]]
