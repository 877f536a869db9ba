import re

from django.urls import re_path

from conversations.api.manage import (
    account,
    channels,
    keys,
    prompt_versions,
    saved_replies,
    spend_caps,
    usage,
)
from conversations.api.manage.base import ManageView

ROUTES: dict[str, type[ManageView]] = {
    "channels": channels.ChannelsView,
    "channels/{channel_id}": channels.ChannelView,
    "channels/{channel_id}/retire": channels.RetireView,
    "channels/{channel_id}/prompt-versions": prompt_versions.PromptVersionsView,
    "channels/{channel_id}/prompt-versions/{number}": prompt_versions.PromptVersionView,
    "channels/{channel_id}/keys": keys.KeysView,
    "channels/{channel_id}/keys/{key_id}": keys.KeyView,
    "channels/{channel_id}/keys/{key_id}/rotate": keys.RotateView,
    "channels/{channel_id}/keys/{key_id}/revoke": keys.RevokeView,
    "channels/{channel_id}/keys/{key_id}/spend-cap": spend_caps.KeyCapView,
    "channels/{channel_id}/saved-replies": saved_replies.SavedRepliesView,
    "channels/{channel_id}/saved-replies/{reply_id}": saved_replies.SavedReplyView,
    "channels/{channel_id}/spend-cap": spend_caps.ChannelCapView,
    "channels/{channel_id}/usage": usage.ChannelUsageView,
    "account": account.AccountView,
    "usage": usage.AccountUsageView,
}
# Any text may stand for a UUID, so that all that is not one of the account's gets the same answer.
_ANYTHING = "[^/]{1,100}"
_PATTERNS = {"number": "[0-9]{1,9}", "reply_id": "[0-9]{1,18}"}


def _to_pattern(route: str) -> str:
    def named(found: re.Match[str]) -> str:
        return f"(?P<{found[1]}>{_PATTERNS.get(found[1], _ANYTHING)})"

    return "^" + re.sub(r"{(\w+)}", named, route) + "/?$"


urlpatterns = [re_path(_to_pattern(route), view.as_view()) for route, view in ROUTES.items()]
