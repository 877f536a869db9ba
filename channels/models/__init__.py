"""Tables of callers (accounts, channels, keys) and of the catalogue (models, providers, routes)."""

from channels.models.account_key import AccountKey
from channels.models.audit import AuditEntry
from channels.models.catalogue import (
    WEB_ADDRESS,
    CatalogueVersion,
    LanguageModel,
    Provider,
    Route,
    RouteHealth,
    RouteTraits,
    refuse_flaws,
    refuse_reserved_name,
    refuse_userinfo,
)
from channels.models.channel import (
    ANSWER_SETTINGS,
    LONGEST_QUESTION,
    LONGEST_SAVED_REPLY,
    LONGEST_STOP_WORD,
    MAX_SYSTEM_PROMPT_CHARACTERS,
    MOST_STOP_WORDS,
    SHORTEST_ANSWER_TOKENS,
    ApiKey,
    Channel,
    FixedAnswer,
    KeyHour,
    KeyUse,
    PromptVersion,
    Wording,
)
from channels.models.doors import DailyCount, KnownDevice, LoginSession, PersonMail
from channels.models.lifecycle import ModelMove, ModelNotice, ProviderList
from channels.models.outages import Outage
from channels.models.people import Account, Invitation, Membership, Plan, User, UserManager
from channels.models.prices import CostPrice, CreditPrice
from channels.models.secrets import SecretCheck

__all__ = [
    "ANSWER_SETTINGS",
    "LONGEST_QUESTION",
    "LONGEST_SAVED_REPLY",
    "LONGEST_STOP_WORD",
    "MAX_SYSTEM_PROMPT_CHARACTERS",
    "MOST_STOP_WORDS",
    "SHORTEST_ANSWER_TOKENS",
    "WEB_ADDRESS",
    "Account",
    "AccountKey",
    "ApiKey",
    "AuditEntry",
    "CatalogueVersion",
    "Channel",
    "CostPrice",
    "CreditPrice",
    "DailyCount",
    "FixedAnswer",
    "Invitation",
    "KeyHour",
    "KeyUse",
    "KnownDevice",
    "LanguageModel",
    "LoginSession",
    "Membership",
    "ModelMove",
    "ModelNotice",
    "Outage",
    "PersonMail",
    "Plan",
    "PromptVersion",
    "Provider",
    "ProviderList",
    "Route",
    "RouteHealth",
    "RouteTraits",
    "SecretCheck",
    "User",
    "UserManager",
    "Wording",
    "refuse_flaws",
    "refuse_reserved_name",
    "refuse_userinfo",
]
