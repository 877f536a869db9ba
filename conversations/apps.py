from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ConversationsConfig(AppConfig):
    """Sessions, messages, and the chat itself."""

    name = "conversations"
    verbose_name = _("Conversations")
