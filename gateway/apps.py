from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class GatewayConfig(AppConfig):
    """The site as a whole: its URLs, checks, and commands."""

    name = "gateway"
    verbose_name = _("Gateway")

    def ready(self) -> None:
        # They need the models, which Django has loaded by now.
        import gateway.checks  # noqa: F401  # registers the checks
