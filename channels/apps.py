from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class GatewayChannelsConfig(AppConfig):
    """Channels, their keys, and the providers and models that answer them."""

    name = "channels"
    verbose_name = _("Channels")

    def ready(self) -> None:
        # The checks import the models, which Django has loaded by now.
        from channels import checks  # noqa: F401  # registers the checks
