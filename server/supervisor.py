"""The parent process: keeps the workers running and stops them once.

Signals are not handled but waited for. They are blocked before the first worker is forked, and
the loop below takes them one by one: none is lost, whenever it comes, and none interrupts
anything. Workers do the same (worker.py).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
# What workers tell their parent: the wish for a successor, and that they listen (worker.py).
REPLACE_ME, LISTENING = signal.SIGUSR1, signal.SIGUSR2
BLOCKED = STOP_SIGNALS | {REPLACE_ME, LISTENING, signal.SIGCHLD}
# si_code of a signal that a terminal sent; those of programs are 0 or below.
SI_KERNEL = 0x80

# How many workers in a row may die within a second of their birth before we give up.
EARLY_DEATHS_ALLOWED = 10
# A second Ctrl+C within this time is impatience, not a wish.
SECOND_THOUGHT_SECONDS = 1.0
# Whatever makes workers ask for a successor, forking is not what the processor is for.
REPLACEMENT_INTERVAL_SECONDS = 5.0


def block_signals() -> None:
    """Keep signals for the loops of parent and workers; threads and children inherit it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started us may have ignored it
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)


def stop_signals() -> frozenset[signal.Signals]:
    """Return what stops the server: not a hang-up where nohup asked for it to be ignored."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return STOP_SIGNALS - {signal.SIGHUP} if ignored else STOP_SIGNALS


@dataclass(slots=True)
class Worker:
    """A process of ours. One that retires finishes its calls while its successor serves."""

    born_at: float = field(default_factory=time.monotonic)
    is_retiring: bool = False


class Supervisor:
    """Runs `work` in so many processes until a stop signal comes.

    `work` is called with the parent's id and a descriptor that reads as ended once the parent is
    gone, however it went.
    """

    def __init__(self, work: Callable[[int, int], None], count: int, drain_seconds: float) -> None:
        self._work = work
        self._count = count
        self._drain_seconds = drain_seconds
        self._workers: dict[int, Worker] = {}
        self._stopping_since = 0.0
        self._early_deaths = 0
        self._next_fork_at = 0.0
        self._replaced_at = -REPLACEMENT_INTERVAL_SECONDS
        self._status = 0
        self._has_killed = False
        self._lifeline, self._held_end = os.pipe()

    def run(self, on_started: Callable[[], None]) -> int:
        """Serve until told to stop; return the exit status."""
        stops = stop_signals()
        awaited = stops | {REPLACE_ME, LISTENING, signal.SIGCHLD}
        self._fill()
        on_started()  # may start a thread: only after the forks
        while self._workers or not self._stopping_since:
            info = signal.sigtimedwait(awaited, self._patience())
            if info and info.si_signo in stops:
                self._stop(info)
            elif info and info.si_signo == REPLACE_ME:
                self._replace(info.si_pid)
            elif info and info.si_signo == LISTENING:
                self._retire()
            self._bury()
            if self._is_overdue():
                print("The time to finish is over; killing what is left.")
                self._status = 1
                self._has_killed = True
                self._signal_all(signal.SIGKILL)
            self._fill()
        return self._status

    def _patience(self) -> float:
        """Return how long to wait for a signal: until the drain time is over, or to look again."""
        if self._stopping_since:
            return max(0.1, self._stopping_since + self._drain_seconds - time.monotonic())
        return max(0.0, self._next_fork_at - time.monotonic()) if self._is_short() else 60.0

    def _is_overdue(self) -> bool:
        late = time.monotonic() - self._stopping_since > self._drain_seconds
        return bool(self._stopping_since and self._workers and late and not self._has_killed)

    def _is_short(self) -> bool:
        serving = sum(not worker.is_retiring for worker in self._workers.values())
        return serving < self._count and not self._stopping_since

    def _fill(self) -> None:
        """Fork the workers that are missing, more slowly the more often they die at birth."""
        while self._is_short() and time.monotonic() >= self._next_fork_at:
            self._fork()

    def _fork(self) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            print(f"Cannot start a worker: {error.strerror}.", file=sys.stderr)
            self._note_death(0)
            return
        if pid:
            self._workers[pid] = Worker()
            return
        try:
            os.close(self._held_end)
            self._work(parent, self._lifeline)
        except BaseException:  # noqa: BLE001  # no worker may go on as a second parent
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)

    def _stop(self, info: signal.struct_siginfo) -> None:
        now = time.monotonic()
        if not self._stopping_since:
            self._stopping_since = now
            self._signal_all(signal.SIGTERM)
            print("Stopping: calls in flight are being finished.")
        elif (
            # Only a person at the keyboard can mean "at once"; programs repeat themselves.
            info.si_signo == signal.SIGINT
            and info.si_code == SI_KERNEL
            and now - self._stopping_since > SECOND_THOUGHT_SECONDS
        ):
            print("Stopping at once.")
            self._signal_all(signal.SIGKILL)

    def _replace(self, pid: int) -> None:
        """Start the successor of a worker that asked for one."""
        now = time.monotonic()
        worker = self._workers.get(pid)
        too_soon = now - self._replaced_at < REPLACEMENT_INTERVAL_SECONDS
        if worker is None or worker.is_retiring or self._stopping_since or too_soon:
            return
        self._replaced_at = now
        worker.is_retiring = True

    def _retire(self) -> None:
        """Now that a successor listens, let those go for whom it was started."""
        for pid, worker in self._workers.items():
            if worker.is_retiring:
                os.kill(pid, signal.SIGTERM)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._workers:
            os.kill(pid, number)  # they are ours until they are buried

    def _bury(self) -> None:
        """Take note of workers that have ended."""
        for pid in list(self._workers):
            if os.waitpid(pid, os.WNOHANG)[0]:
                worker = self._workers.pop(pid)
                if not (worker.is_retiring or self._stopping_since):
                    self._note_death(time.monotonic() - worker.born_at)

    def _note_death(self, lived_seconds: float) -> None:
        self._early_deaths = self._early_deaths + 1 if lived_seconds < 1 else 0
        self._next_fork_at = time.monotonic() + 0.1 * self._early_deaths
        if self._early_deaths > EARLY_DEATHS_ALLOWED:
            print("Workers keep dying at their start; giving up.", file=sys.stderr)
            self._status = 1
            self._stopping_since = time.monotonic()
            self._signal_all(signal.SIGTERM)
