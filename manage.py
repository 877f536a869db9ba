#!/usr/bin/env python
"""Django's command line for the gateway."""

import os
import sys

if __name__ == "__main__":
    os.umask(0o077)  # what is written, the database first of all, is for this user only
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    from gateway.command_line import run

    run(sys.argv)
