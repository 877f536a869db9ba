"""The list of pages that ask for the password again after 15 minutes.

It holds every page that shows a secret, changes a way to log in, or gives somebody rights, by URL
name. gate.py reads it before every page. A test walks all URLs and fails on one that is neither
here nor on the test's own list of harmless ones.
"""

from __future__ import annotations

# These ask before the page opens, so that nobody fills in a form first, and again on submit.
PAGES = frozenset(
    {
        # Ways to log in.
        "account_set_password",
        "mfa_activate_totp",
        "mfa_deactivate_totp",
        "mfa_add_webauthn",
        "mfa_edit_webauthn",
        "mfa_remove_webauthn",
        "mfa_generate_recovery_codes",
        "mfa_view_recovery_codes",
        "mfa_download_recovery_codes",
        # The response shows two keys.
        "console:new_channel",
        # The response shows codes, and anybody who reads them can redeem them for credits.
        "admin:make_codes",
        # Other people's rights and ways to log in, and the address that receives a provider's key.
        "admin:channels_user_add",
        "admin:auth_user_password_change",
        "admin:channels_user_delete",
        "admin:auth_group_add",
        "admin:auth_group_delete",
        "admin:channels_membership_add",
        "admin:channels_membership_delete",
        "admin:channels_provider_add",
        "admin:provider_wizard",
        "admin:channels_provider_delete",
        "admin:mfa_authenticator_delete",
        # Other people's conversations and prompts, and who owns a channel.
        "admin:view_as_owner",
        "admin:conversations_message_read_text",
        "admin:conversations_feedback_read_text",
        "admin:channels_promptversion_read_text",
        "admin:channels_channel_move",
    }
)
# These ask only on submit. The page itself shows nothing sensitive.
FORMS = frozenset(
    {
        "account_email",
        # A thief would switch off the e-mails that give them away.
        "account_mails",
        "console:show_key",
        "console:new_key",
        "console:duplicate_channel",
        # A leaked key may work longer, or from anywhere.
        "console:edit_key",
        "console:rotate_key",
        "console:new_account_key",
        # The archive holds every conversation.
        "console:export_account",
        "console:delete_account",
        "console:team_invite",
        "console:team_invite_again",
        "console:team_role",
        "console:team_second_factor",
        "admin:channels_user_change",
        "admin:channels_user_changelist",
        "admin:auth_group_change",
        "admin:auth_group_changelist",
        "admin:channels_membership_change",
        "admin:channels_membership_changelist",
        # Members are edited on their account's page. Channels change hands on a page of their own.
        "admin:channels_account_add",
        "admin:channels_account_change",
        "admin:channels_channel_add",
        "admin:channels_channel_change",
        "admin:channels_provider_change",
        "admin:channels_provider_changelist",
        "admin:mfa_authenticator_changelist",
    }
)


def asks_again(view_name: str, method: str | None) -> bool:
    """Return whether this request, a page view or a submit, needs a recent log-in."""
    is_read = method in ("GET", "HEAD", "OPTIONS")
    return view_name in PAGES or (view_name in FORMS and not is_read)
