from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_dependencies
from django.core import checks


class GatewayConfig(AppConfig):
    """The site as a whole: its addresses, checks and commands."""

    name = "gateway"

    def ready(self) -> None:
        # Both need the models, which Django has loaded by now.
        import gateway.checks  # noqa: F401  # registers the checks
        from gateway.accounts import factor_secrets

        factor_secrets.install()


class StaffAdminConfig(SimpleAdminConfig):
    """Django's admin as the staff's site.

    Its pages are loaded with the URLs (gateway/urls.py), and so by the server and the checks:
    AdminConfig would load them, and all that they need, at the start of every command.
    """

    default_site = "gateway.sites.StaffSite"

    def ready(self) -> None:
        # Not super(): its other check looks at the pages, which may not be loaded when it runs.
        # gateway.checks has one that loads them first.
        checks.register(check_dependencies, checks.Tags.admin)
