from django.urls import re_path

from conversations.api.openai import CompletionsView, ModelsView

urlpatterns = [
    re_path(r"^chat/completions/?$", CompletionsView.as_view(), name="completions"),
    re_path(r"^models/?$", ModelsView.as_view(), name="openai_models"),
]
