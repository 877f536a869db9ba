from django.apps import AppConfig


class GatewayConfig(AppConfig):
    """The site as a whole: its addresses, checks and commands."""

    name = "gateway"

    def ready(self) -> None:
        from gateway import checks  # noqa: F401  # registers the checks
