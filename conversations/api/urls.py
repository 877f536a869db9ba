from django.urls import re_path

from conversations.api.views import ChatView, HistoryView

urlpatterns = [
    re_path(r"^chat/?$", ChatView.as_view(), name="chat"),
    re_path(r"^history/?$", HistoryView.as_view(), name="history"),
]
