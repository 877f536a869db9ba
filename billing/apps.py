from django.apps import AppConfig


class BillingConfig(AppConfig):
    """Credits, holds, the ledger, and the limits."""

    name = "billing"
    verbose_name = "Billing"

    def ready(self) -> None:
        # It needs the models, which Django has loaded by now.
        from billing import checks  # noqa: F401  # registers the checks
