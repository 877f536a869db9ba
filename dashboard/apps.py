from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_dependencies
from django.core import checks


class DashboardConfig(AppConfig):
    """Everything people click: the owners' console, the staff's pages, log-in. No tables."""

    name = "dashboard"

    def ready(self) -> None:
        # It needs the models, which Django has loaded by now.
        from dashboard.login import factor_secrets
        from dashboard.staff import names

        factor_secrets.install()
        names.translate_names()


class StaffAdminConfig(SimpleAdminConfig):
    """Django's admin, as the staff's site.

    Its pages are loaded with the URLs (gateway/urls.py), so only by the server and the checks.
    AdminConfig would load them, with everything they need, at the start of every command.
    """

    default_site = "dashboard.sites.StaffSite"

    def ready(self) -> None:
        # Does not call super(), whose other check looks at pages that may not be loaded when it
        # runs. gateway.checks has a check that loads them first.
        checks.register(check_dependencies, checks.Tags.admin)
