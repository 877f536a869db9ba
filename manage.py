#!/usr/bin/env python
"""Django's command line for the gateway."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    from gateway.command_line import run

    run(sys.argv)
