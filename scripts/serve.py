"""Start the gateway: check it, prepare it, run it on Granian, print its address.

    python scripts/serve.py              the production start (make serve)
    python scripts/serve.py --first-run  also migrates, and creates a first login (make run)

The parts are in `server/`.
"""

import signal

# Until there are calls to finish, Ctrl+C ends the start at once, without a traceback. So this comes
# before any other import.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from server.launch import main  # noqa: E402  # found by the line above

if __name__ == "__main__":
    main()
