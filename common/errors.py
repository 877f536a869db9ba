"""Every error a caller can get, one class each; `common/api/errors.py` renders them.

The codes and statuses are those of the public API contract. Services raise these classes. Nothing
below the API builds a response.
"""

from __future__ import annotations


class ApiError(Exception):
    """An answer other than success: a status, a stable code, and a sentence for people."""

    status = 500
    code = "internal_error"
    default_message = "Something went wrong on our side. The problem has been recorded."

    def __init__(
        self,
        message: str | None = None,
        *,
        fields: dict[str, str] | None = None,
        retry_after: int | None = None,
        resets_at: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.message = message or self.default_message
        self.fields = fields
        self.retry_after = retry_after
        self.resets_at = resets_at
        self.headers = headers or {}
        super().__init__(self.message)


class InvalidRequest(ApiError):
    """400: `fields` maps each wrong field to a sentence; empty if the body is not a JSON object."""

    status = 400
    code = "invalid_request"
    default_message = "The request is not valid."

    def __init__(
        self,
        message: str | None = None,
        *,
        fields: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, fields=fields or {}, headers=headers)


class MissingApiKey(ApiError):
    status = 401
    code = "missing_api_key"
    default_message = (
        "No API key was sent. Put your channel's key in the X-API-Key header, "
        "or send it as 'Authorization: Bearer <key>'."
    )

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Bearer realm="api"'})


class InvalidApiKey(ApiError):
    """One answer for wrong, malformed, expired, and revoked keys, so that it reveals nothing."""

    status = 401
    code = "invalid_api_key"
    default_message = (
        "This API key is not valid. Check that you copied all of it, or ask for a new one."
    )

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Bearer realm="api", error="invalid_token"'})


class SiteDisabled(ApiError):
    status = 403
    code = "site_disabled"
    default_message = "This channel is switched off. Its owner can switch it on in the dashboard."


class NotAllowed(ApiError):
    """The key is valid, but its owner has restricted what it may be used for."""

    status = 403
    code = "not_allowed"
    default_message = "This key may not be used for this request."


class NotFound(ApiError):
    status = 404
    code = "not_found"
    default_message = "There is nothing at this address. Check the path against the documentation."


class MethodNotAllowed(ApiError):
    status = 405
    code = "method_not_allowed"

    def __init__(self, method: str, allowed: list[str]) -> None:
        names = ", ".join(allowed)
        super().__init__(
            f"This address does not accept {method} requests, only {names}.",
            headers={"Allow": names},
        )


class LengthRequired(ApiError):
    status = 411
    code = "length_required"
    default_message = "Send the body with a Content-Length header, or chunked."


class PayloadTooLarge(ApiError):
    status = 413
    code = "payload_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes // 1024} KiB. Shorten it.")


class UnsupportedMediaType(ApiError):
    status = 415
    code = "unsupported_media_type"
    default_message = "Send the body as JSON with the header 'Content-Type: application/json'."


class RateLimited(ApiError):
    status = 429
    code = "rate_limited"


class Overloaded(ApiError):
    """503: the gateway sheds load or its database is down. Never the caller's fault."""

    status = 503
    code = "overloaded"
    default_message = "The gateway cannot take this request right now. Please try again shortly."

    def __init__(self, message: str | None = None, *, retry_after: int = 2) -> None:
        super().__init__(message, retry_after=retry_after)
