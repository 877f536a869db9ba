"""Log-in, sign-up and what belongs to a person rather than to an account; on allauth."""
