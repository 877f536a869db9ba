from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BillingConfig(AppConfig):
    """Credits, holds, the ledger, and the limits."""

    name = "billing"
    verbose_name = _("Billing")

    def ready(self) -> None:
        # It needs the models, which Django has loaded by now.
        from billing import checks  # noqa: F401  # registers the checks
