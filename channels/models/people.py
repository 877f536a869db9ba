"""People, the accounts they share, their roles there, and the accounts' plans."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels import calendars
from channels.calendars import Calendar
from channels.models.catalogue import LanguageModel
from common.days import UTC_NAME


class UserManager(BaseUserManager["User"]):
    """Creates users that log in with their e-mail address.

    For the operator, the staff and commands, who vouch for the address. For people who sign up
    themselves, allauth creates the user and verifies the address first.
    """

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        self.vouch_for(user)
        return user

    def vouch_for(self, user: User) -> None:
        """Make the user's address their only one, and mark it verified, so that they can log in."""
        # Imported here, because allauth's models need this module first.
        from allauth.account.models import EmailAddress

        EmailAddress.objects.filter(user=user).delete()
        address = EmailAddress(user=user, email=user.email.lower(), verified=True, primary=True)
        # If somebody else has verified the address before, they keep it.
        EmailAddress.objects.bulk_create([address], ignore_conflicts=True)

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email__iexact=username)


class User(AbstractUser):
    """A person who logs in. The e-mail address is the user name."""

    username = None  # type: ignore[assignment]  # Django's documented way to drop the field
    email = models.EmailField(_("e-mail address"), unique=True)
    # Whether the password is still the one that set-up generated and printed. Pages remind of it.
    has_first_password = models.BooleanField(default=False, db_default=False, editable=False)
    # Which e-mails the person gets (channels/person_mails.py).
    mails_new_keys = models.BooleanField(default=True, db_default=True, editable=False)
    mails_new_members = models.BooleanField(default=True, db_default=True, editable=False)
    mails_new_devices = models.BooleanField(default=True, db_default=True, editable=False)
    mails_outages = models.BooleanField(default=False, db_default=False, editable=False)
    mails_digests = models.BooleanField(default=False, db_default=False, editable=False)
    # The language of the person's pages and e-mails: a code of settings.LANGUAGES. Empty until
    # they choose; then pages go by the browser, and e-mails are in English.
    language = models.CharField(
        max_length=16, default="", db_default="", blank=True, editable=False
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                Lower("email"),
                name="channels_user_email_unique",
                violation_error_message=_("Somebody has signed up with this e-mail address."),
            )
        ]

    def __str__(self) -> str:
        return self.email

    def set_password(self, raw_password: str | None) -> None:
        """Set a password. Every way to change it ends here, so it is no longer the first one."""
        super().set_password(raw_password)
        self.has_first_password = False


class Account(models.Model):
    """Owns channels and pays for them."""

    name = models.CharField(max_length=254)
    plan = models.ForeignKey("Plan", models.PROTECT, null=True, blank=True, related_name="accounts")
    is_enabled = models.BooleanField(_("enabled"), default=True)
    # Members without a second factor must set one up before they can do anything else.
    requires_second_factor = models.BooleanField(default=False, db_default=False)
    members = models.ManyToManyField(User, through="Membership", related_name="accounts")
    # The zone of the account's days and months: an IANA name.
    time_zone = models.CharField(max_length=64, default=UTC_NAME, db_default=UTC_NAME)
    # Whether quotas count by that zone's days too, instead of UTC days.
    has_local_quota = models.BooleanField(default=False, db_default=False)
    # How a change of these two takes effect (channels/calendars.py). Empty without one.
    turns = models.TextField(default="", db_default="", blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    # When an owner deleted the account, and when the last of its text was erased
    # (conversations/archive/account_end.py). Its books stay, so the row does too.
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)
    deleted_by = models.CharField(max_length=254, default="", db_default="", editable=False)
    erased_at = models.DateTimeField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return self.name

    @property
    def calendar(self) -> Calendar:
        """Return how the account counts days and months."""
        return calendars.read(self.time_zone, self.has_local_quota, self.turns)


class Membership(models.Model):
    """A person's role in an account."""

    class Role(models.TextChoices):
        OWNER = "owner", _("Owner")
        EDITOR = "editor", _("Editor")
        VIEWER = "viewer", _("Viewer")

    account = models.ForeignKey(Account, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role.choices, default=Role.VIEWER)
    created_at = models.DateTimeField(auto_now_add=True)
    # The last day of which the person got the digest (conversations/digests.py).
    digest_day = models.DateField(null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "user"], name="channels_membership_unique")
        ]

    def __str__(self) -> str:
        return gettext("%(user)s in %(account)s: %(role)s") % {
            "user": self.user,
            "account": self.account,
            "role": gettext(self.role),
        }


class Invitation(models.Model):
    """An invitation to an account by e-mail. The secret in its link is looked up by digest."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="invitations")
    email = models.EmailField(_("e-mail address"))
    role = models.CharField(max_length=8, choices=Membership.Role.choices)
    secret_digest = models.CharField(max_length=64, unique=True, editable=False)
    pepper_id = models.CharField(max_length=12, default="", db_default="", editable=False)
    # Needed to compute the digest again under another pepper. None in older invitations.
    secret_ciphertext = models.BinaryField(null=True, editable=False)
    encryption_key_id = models.CharField(max_length=32, default="", db_default="", editable=False)
    invited_by = models.ForeignKey(
        User, models.SET_NULL, null=True, related_name="+", editable=False
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    # When it was accepted, withdrawn or declined. The link no longer works.
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "account",
                Lower("email"),
                condition=Q(closed_at=None),
                name="channels_invitation_one_open",
            )
        ]

    def __str__(self) -> str:
        return gettext("%(email)s into %(account)s: %(role)s") % {
            "email": self.email,
            "account": self.account_id,
            "role": gettext(self.role),
        }


def _bound(name: Any) -> models.PositiveIntegerField[int | None, int | None]:
    return models.PositiveIntegerField(
        name, null=True, blank=True, validators=[MinValueValidator(1)]
    )


class Plan(models.Model):
    """An account's limits and monthly credits. A channel's own limits can only be tighter."""

    name = models.CharField(max_length=60, unique=True)
    requests_per_minute = models.PositiveIntegerField(
        _("requests a minute for each channel"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Leave empty for no limit."),
    )
    daily_quota = models.PositiveIntegerField(
        _("messages a day for each channel"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Leave empty for no limit."),
    )
    monthly_grant_microcredits = models.PositiveBigIntegerField(
        default=0,
        help_text=_("Granted each UTC month, expiring at its end. 1 credit = 1,000,000."),
    )
    # Bounds of an account as a whole (channels/limits.py).
    max_channels = _bound(_("channels per account"))
    max_keys = _bound(_("keys per account, working or created in the last 24 hours"))
    max_prompt_versions = _bound(_("prompt versions per account"))
    max_saved_replies = _bound(_("saved replies per account"))
    max_members = _bound(_("members and open invitations per account"))
    models_allowed = models.ManyToManyField(
        LanguageModel,
        blank=True,
        related_name="plans",
        help_text=_("If you choose none, all are allowed."),
    )

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name
