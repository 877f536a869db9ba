from django.apps import AppConfig


class GatewayConfig(AppConfig):
    """The site as a whole: its URLs, checks, and commands."""

    name = "gateway"

    def ready(self) -> None:
        # They need the models, which Django has loaded by now.
        import gateway.checks  # noqa: F401  # registers the checks
