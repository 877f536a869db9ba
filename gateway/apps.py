from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_dependencies
from django.core import checks


class GatewayConfig(AppConfig):
    """The site as a whole: its URLs, checks, and commands."""

    name = "gateway"

    def ready(self) -> None:
        # Both need the models, which Django has loaded by now.
        import gateway.checks  # noqa: F401  # registers the checks
        from gateway.accounts import factor_secrets

        factor_secrets.install()


class StaffAdminConfig(SimpleAdminConfig):
    """Django's admin, as the staff's site.

    Its pages are loaded with the URLs (gateway/urls.py), so only by the server and the checks.
    AdminConfig would load them, with everything they need, at the start of every command.
    """

    default_site = "gateway.sites.StaffSite"

    def ready(self) -> None:
        # Does not call super(), whose other check looks at pages that may not be loaded when it
        # runs. gateway.checks has a check that loads them first.
        checks.register(check_dependencies, checks.Tags.admin)
