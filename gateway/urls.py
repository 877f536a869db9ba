"""The URLs of the site."""

from django.contrib import admin
from django.urls import include, path, re_path

from common.api import errors
from dashboard import frame
from dashboard.login import join
from dashboard.login.admin import replace_pages_of_allauth
from dashboard.reference import page
from dashboard.staff.urls import site_urls
from gateway import health
from gateway.schema.view import SchemaView

# Every app registers its models with the staff admin. Then ours replace some of them.
admin.autodiscover()
replace_pages_of_allauth()

urlpatterns = [
    path("api/", include("conversations.api.urls")),
    path("api/manage/", include("conversations.api.manage.urls")),
    path("api/", include("billing.api.urls")),
    path("v1/", include("conversations.api.openai_urls")),
    re_path(r"^api/schema/?$", SchemaView.as_view(), name="schema"),
    re_path(r"^(?:api|v1)/", errors.api_not_found),
    path("favicon.ico", frame.favicon_ico, name="favicon"),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("docs/", page.api_reference, name="docs"),
    path("admin/", (site_urls(), "admin", admin.site.name)),
    # Ours first, because they replace some of allauth's.
    path("accounts/", include("dashboard.login.urls")),
    path("accounts/", include("allauth.urls")),
    path("join/", include(join)),
    path("", include("dashboard.console.urls", namespace="console")),
]

handler400 = "common.api.errors.handler400"
handler404 = "common.api.errors.handler404"
handler429 = "dashboard.login.events.handler429"
handler500 = "common.api.errors.handler500"
