"""Errors of channels and providers that are not an answer to a caller by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

from common.errors import Overloaded


class Fault(Enum):
    """Whose fault a failed call is; channels/providers/faults.py decides, breaker.py acts on it."""

    # Out at once, as every call would fail alike: somebody has to see to key, account or model.
    BROKEN = "broken"
    # Out at once: no connection.
    UNREACHABLE = "unreachable"
    # Out for as long as the provider asks.
    LIMITED = "limited"
    # About this request alone: another route may take it.
    REQUEST = "request"
    # The provider will not answer this message. Final: no other provider is asked.
    DECLINED = "declined"
    # Counted, and looked into where it goes on.
    DOUBTFUL = "doubtful"


@dataclass(frozen=True, slots=True)
class Said:
    """A provider's own words for an error; nobody has taken out yet what is not a caller's.

    `param` is a member of the request as it was sent, as in `messages[3].content`; `model` is what
    the provider calls the model. Empty where nothing was said.
    """

    message: str = ""
    code: str = ""
    param: str = ""
    model: str = ""


class ProviderError(Exception):
    """One route failed.

    `retry_after_seconds` is how long the provider itself asked to be left alone; `is_refusal` says
    that the same request would be refused again. `said` is what callers may see of it, None where
    nothing could be read. `status` and `words` are for lessons.py alone: words may quote a request.
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
        # Whether the answer had begun, so that the call cannot be made once more.
        self.has_begun = False
        # Where each message that was sent stands among those of the request; None: it is several.
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
        """Whether the next call will fail alike until somebody has seen to it."""
        return self.fault is Fault.BROKEN


class UnknownModel(Exception):
    """No enabled model has this id; the message lists those there are."""


class UnknownChannel(Exception):
    """No channel has this id."""


class UnknownAccount(Exception):
    """Nobody with this e-mail address owns an account."""


class ChannelChanged(Exception):
    """Somebody saved the same fields since they were read; nothing was overwritten."""


class ChannelInUse(Exception):
    """The books refer to the channel, so it must stay."""


class KeyNotActive(Exception):
    """The key ends already: it was rotated or revoked before."""


class MadeBefore(Exception):
    """What was asked for under this id exists already: a form that was sent twice."""


class PlanLimitReached(ValidationError):
    """The account has as many of something as its plan allows; says how to get more."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__({NON_FIELD_ERRORS: [sentence]})


class TeamRefusal(Exception):
    """A change to an account's team is refused; the message says why, to the person who asked."""


class LastOwner(TeamRefusal):
    """Without this owner nobody could look after the account."""


class AlreadyMember(TeamRefusal):
    """The invited person is in the account."""


class AlreadyInvited(TeamRefusal):
    """An invitation to this address is open."""


class TooManyInvitations(TeamRefusal):
    """The account has sent as many invitations as it may for now."""


class TeamFull(TeamRefusal):
    """The account has as many members and invitations as its plan allows."""


class InvitationGone(TeamRefusal):
    """The invitation was accepted, withdrawn, or has run out."""


class InvitationForAnother(TeamRefusal):
    """The invitation was sent to another e-mail address."""


class WrongSecrets(Overloaded):
    """The settings hold other secrets than those the database was written with.

    Which ones is in the log alone: the caller can do nothing about it.
    """

    default_message = (
        "The gateway's secrets do not fit its database; nothing was written. Its operator finds "
        "the setting to restore in the log, or by `manage.py check --database default`."
    )
