from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class GatewayConfig(AppConfig):
    """The site as a whole: its addresses, checks and commands."""

    name = "gateway"

    def ready(self) -> None:
        from gateway import checks  # noqa: F401  # registers the checks


class StaffAdminConfig(AdminConfig):
    """Django's admin as the staff's site."""

    default_site = "gateway.sites.StaffSite"

    def ready(self) -> None:
        super().ready()
        from gateway.accounts import admin

        # After every app has registered its own.
        admin.replace_pages_of_allauth()
