from django.apps import AppConfig


class ConversationsConfig(AppConfig):
    """Sessions, messages, and the chat itself."""

    name = "conversations"
    verbose_name = "Conversations"
