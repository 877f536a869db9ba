from django.urls import re_path

from billing.api.views import KeyView, ModelsView

urlpatterns = [
    re_path(r"^key/?$", KeyView.as_view(), name="key"),
    re_path(r"^models/?$", ModelsView.as_view(), name="models"),
]
