"""The URLs of the site."""

from django.contrib import admin
from django.urls import include, path, re_path

from gateway import api, dashboard, docs, health
from gateway.accounts import join
from gateway.accounts.admin import replace_pages_of_allauth
from gateway.schema import SchemaView
from gateway.staff.urls import site_urls

# Every app registers its models with the staff admin. Then ours replace some of them.
admin.autodiscover()
replace_pages_of_allauth()

urlpatterns = [
    path("api/", include("conversations.api.urls")),
    path("api/", include("billing.api.urls")),
    path("v1/", include("conversations.api.openai_urls")),
    re_path(r"^api/schema/?$", SchemaView.as_view(), name="schema"),
    re_path(r"^(?:api|v1)/", api.api_not_found),
    path("favicon.ico", dashboard.favicon_ico, name="favicon"),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("docs/", docs.api_reference, name="docs"),
    path("admin/", (site_urls(), "admin", admin.site.name)),
    # Ours first, because they replace some of allauth's.
    path("accounts/", include("gateway.accounts.urls")),
    path("accounts/", include("allauth.urls")),
    path("join/", include(join)),
    path("", include("gateway.console.urls", namespace="console")),
]

handler400 = "gateway.api.handler400"
handler404 = "gateway.api.handler404"
handler429 = "gateway.accounts.events.handler429"
handler500 = "gateway.api.handler500"
