from django.urls import re_path

from conversations.api.chat import ChatView
from conversations.api.history import HistoryView
from conversations.api.usage import ReceiptView, UsageView

urlpatterns = [
    re_path(r"^chat/?$", ChatView.as_view(), name="chat"),
    re_path(r"^history/?$", HistoryView.as_view(), name="history"),
    re_path(r"^usage/?$", UsageView.as_view(), name="usage"),
    re_path(
        r"^usage/(?P<reference>[A-Za-z0-9_.:-]{1,128})/?$", ReceiptView.as_view(), name="receipt"
    ),
]
