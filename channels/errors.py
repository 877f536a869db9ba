"""Errors of channels and providers that are not themselves answers to a caller."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

from common.errors import Overloaded


class Fault(Enum):
    """The cause of a failed call. channels/providers/faults.py decides, breaker.py acts on it."""

    # Opens the breaker at once, because every call would fail the same way until somebody fixes the
    # key, the account or the model.
    BROKEN = "broken"
    # Opens the breaker at once: no connection.
    UNREACHABLE = "unreachable"
    # Leaves the route out for as long as the provider asks.
    LIMITED = "limited"
    # Concerns only this request: another route may take it.
    REQUEST = "request"
    # The provider declines to answer this message. Final: the gateway asks no other provider.
    DECLINED = "declined"
    # Counted. After several in a row, the gateway probes the route.
    DOUBTFUL = "doubtful"


@dataclass(frozen=True, slots=True)
class Said:
    """A provider's own words for an error, before anything not meant for callers is removed.

    `param` is a member of the request as it was sent, such as `messages[3].content`. `model` is the
    provider's name for the model. A field is empty if the provider said nothing.
    """

    message: str = ""
    code: str = ""
    param: str = ""
    model: str = ""


class ProviderError(Exception):
    """One route failed.

    `retry_after_seconds` is how long the provider asked the gateway to wait. `is_refusal` means
    that the provider would refuse the same request again. `said` is what callers may see of the
    error, or None if nothing was readable. `status` and `words` are only for lessons.py and
    openai_compatible.py, because words may quote a request.
    """

    def __init__(
        self,
        reason: str,
        *,
        fault: Fault = Fault.DOUBTFUL,
        retry_after_seconds: float = 0,
        is_refusal: bool = False,
        status: int = 0,
        words: str = "",
        said: Said | None = None,
    ) -> None:
        # Whether the answer had begun, so that the call cannot be repeated.
        self.has_begun = False
        # The position in the request of each message that was sent. None: merged from several.
        self.places: list[int | None] = []
        self.status = status
        self.words = words
        self.reason = reason
        self.fault = fault
        self.retry_after_seconds = retry_after_seconds
        self.is_refusal = is_refusal
        self.said = said
        super().__init__(reason)

    @property
    def permanent(self) -> bool:
        """Whether every further call will fail the same way until somebody fixes the cause."""
        return self.fault is Fault.BROKEN


class UnknownModel(Exception):
    """No enabled model has this id. The message lists the available ones."""


class UnknownChannel(Exception):
    """No channel has this id."""


class UnknownAccount(Exception):
    """Nobody with this e-mail address owns an account."""


class ChannelChanged(Exception):
    """Somebody else saved the same fields after they were read. Nothing was overwritten."""


class ChannelInUse(Exception):
    """The ledger refers to the channel, so it must stay."""


class KeyNotActive(Exception):
    """The key no longer works, or, for a rotation, already has a successor."""


class ExcludesLatestCaller(Exception):
    """New address ranges of a key exclude the address that last used it."""

    def __init__(self, address: str, used_at: datetime) -> None:
        self.address = address
        self.used_at = used_at
        super().__init__(address)


class MadeBefore(Exception):
    """Something with this id exists already, because a form was submitted twice."""


class PlanLimitReached(ValidationError):
    """The account has as many of something as its plan allows. The message says how to get more."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__({NON_FIELD_ERRORS: [sentence]})


class TeamRefusal(Exception):
    """A change to an account's team is refused. The message tells the person why."""


class LastOwner(TeamRefusal):
    """The account has no other owner who could manage it."""


class AlreadyMember(TeamRefusal):
    """The invited person is already in the account."""


class AlreadyInvited(TeamRefusal):
    """An invitation to this address is already open."""


class TooManyInvitations(TeamRefusal):
    """The account has sent as many invitations as it may at the moment."""


class TeamFull(TeamRefusal):
    """The account has as many members and invitations as its plan allows."""


class InvitationGone(TeamRefusal):
    """The invitation was accepted or withdrawn, or has expired."""


class InvitationForAnother(TeamRefusal):
    """The invitation was sent to another e-mail address."""


class WrongSecrets(Overloaded):
    """The secrets in the settings are not those that the database was written with.

    Only the log says which, because the caller can do nothing about it.
    """

    default_message = (
        "The gateway's secrets do not match its database, so nothing was written. The log and "
        "`manage.py check --database default` tell the operator which setting to restore."
    )
