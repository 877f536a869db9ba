"""What asks for the password again, 15 minutes after it was last given: the one list.

On it is whatever shows a secret, changes a way to log in, or gives somebody rights, by the name of
its address. gate.py reads it before every page; a test walks all addresses and fails on one that
is neither here nor on the test's own list of harmless ones.
"""

from __future__ import annotations

# Asks before the page is opened, so that nobody fills in a form first; and where it is sent.
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
        # Its answer shows two keys.
        "console:new_channel",
        # Its answer shows codes, which are worth credits to whoever reads them.
        "admin:make_codes",
        # Other people's rights and ways to log in, and where a provider's key goes.
        "admin:channels_user_add",
        "admin:auth_user_password_change",
        "admin:channels_user_delete",
        "admin:auth_group_add",
        "admin:auth_group_delete",
        "admin:channels_membership_add",
        "admin:channels_membership_delete",
        "admin:channels_provider_add",
        "admin:channels_provider_delete",
        "admin:mfa_authenticator_delete",
        # A stranger's conversations and prompts, and who owns a channel.
        "admin:view_as_owner",
        "admin:conversations_message_read_text",
        "admin:conversations_feedback_read_text",
        "admin:channels_promptversion_read_text",
        "admin:channels_channel_move",
    }
)
# Asks where something is sent; the page itself shows nothing that it should not.
FORMS = frozenset(
    {
        "account_email",
        "console:show_key",
        "console:new_key",
        "console:rotate_key",
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
        # Members are changed on the page of their account, channels change hands on their own.
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
    """Tell whether this page, opened or sent something to, wants a recent log-in."""
    is_read = method in ("GET", "HEAD", "OPTIONS")
    return view_name in PAGES or (view_name in FORMS and not is_read)
