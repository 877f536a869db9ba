from django.urls import re_path

from conversations.api.openai import CompletionsView, ModelsView, ModelView
from conversations.api.responses import ResponsesView

urlpatterns = [
    re_path(r"^chat/completions/?$", CompletionsView.as_view(), name="completions"),
    re_path(r"^responses/?$", ResponsesView.as_view(), name="responses"),
    re_path(r"^models/?$", ModelsView.as_view(), name="openai_models"),
    # Matches anything, because ids contain slashes and colons.
    re_path(r"^models/(?P<model_id>(?s:.+?))/?$", ModelView.as_view(), name="openai_model"),
]
