"""The WSGI application. Loading it runs the system checks, so a broken set-up does not serve."""

import logging
import os

import django
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
django.setup(set_prefix=False)

from channels import secret_checks  # noqa: E402  # needs the settings
from common.api.base import Handler  # noqa: E402  # needs the settings

application = Handler()
checked = os.environ.get("GATEWAY_CHECKED")  # the launcher runs the checks before it forks
try:
    if not checked:
        connection.ensure_connection()
        # Raises SystemCheckError, whose text says what to fix.
        BaseCommand().check(databases=["default"])
        secret_checks.require_fit()
    elif checked == "with the database":
        secret_checks.note_fit()
except DatabaseError as error:
    # An unreachable database must not keep the gateway down: /readyz reports it until it is back.
    logging.getLogger("gateway.wsgi").error("database.unreachable", extra={"reason": str(error)})
