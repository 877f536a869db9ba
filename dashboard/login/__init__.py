"""Log-in, sign-up and everything else that belongs to a person, not an account. Uses allauth."""
