"""The parent process: keeps the workers running and stops them once.

There are no signal handlers. Signals are blocked before the first worker is forked, and the loop
below waits for them one by one. So no signal is lost, whenever it arrives, and none interrupts
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
# What workers signal to their parent: they want a successor, or they are listening (worker.py).
REPLACE_ME, LISTENING = signal.SIGUSR1, signal.SIGUSR2
BLOCKED = STOP_SIGNALS | {REPLACE_ME, LISTENING, signal.SIGCHLD}
# si_code of a signal from a terminal. Signals from programs have 0 or less.
SI_KERNEL = 0x80

# How many workers in a row may die within a second of their start before we give up.
EARLY_DEATHS_ALLOWED = 10
# A second Ctrl+C within this time is impatience, not a request to stop at once.
SECOND_THOUGHT_SECONDS = 1.0
# A lower bound, so that forking never takes over the processor, whatever makes workers ask.
REPLACEMENT_INTERVAL_SECONDS = 5.0


def block_signals() -> None:
    """Block signals for the loops of parent and workers. Threads and children inherit this."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the program that started us may have ignored it
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)


def stop_signals() -> frozenset[signal.Signals]:
    """Return the signals that stop the server. Under nohup a hang-up is not one of them."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return STOP_SIGNALS - {signal.SIGHUP} if ignored else STOP_SIGNALS


@dataclass(slots=True)
class Worker:
    """A worker process. A retiring one finishes its calls while its successor serves."""

    born_at: float = field(default_factory=time.monotonic)
    is_retiring: bool = False


class Supervisor:
    """Runs `work` in `count` processes until a stop signal arrives.

    `work` gets the parent's id, and a descriptor that reaches end of file when the parent is gone,
    however it ended.
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
        """Serve until a stop signal. Returns the exit status."""
        stops = stop_signals()
        awaited = stops | {REPLACE_ME, LISTENING, signal.SIGCHLD}
        self._fill()
        on_started()  # may start a thread, so only after the forks
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
                print("The drain time is over: killing the remaining workers.")
                self._status = 1
                self._has_killed = True
                self._signal_all(signal.SIGKILL)
            self._fill()
        return self._status

    def _patience(self) -> float:
        """Return how long to wait for a signal: until the drain time is over, or the next check."""
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
        """Fork the missing workers; wait longer, the more of them die right after their start."""
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
        except BaseException:  # noqa: BLE001  # a worker must never go on as a second parent
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)

    def _stop(self, info: signal.struct_siginfo) -> None:
        now = time.monotonic()
        if not self._stopping_since:
            self._stopping_since = now
            self._signal_all(signal.SIGTERM)
            print("Stopping: finishing the calls in flight.")
        elif (
            # Only a person at the keyboard can mean “at once”. Programs send signals repeatedly.
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
        """Stop the retiring workers, now that a successor is listening."""
        for pid, worker in self._workers.items():
            if worker.is_retiring:
                os.kill(pid, signal.SIGTERM)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._workers:
            os.kill(pid, number)  # they are our children until we wait for them

    def _bury(self) -> None:
        """Remove workers that have ended."""
        for pid in list(self._workers):
            if os.waitpid(pid, os.WNOHANG)[0]:
                worker = self._workers.pop(pid)
                if not (worker.is_retiring or self._stopping_since):
                    self._note_death(time.monotonic() - worker.born_at)

    def _note_death(self, lived_seconds: float) -> None:
        self._early_deaths = self._early_deaths + 1 if lived_seconds < 1 else 0
        self._next_fork_at = time.monotonic() + 0.1 * self._early_deaths
        if self._early_deaths > EARLY_DEATHS_ALLOWED:
            print("Workers keep dying right after their start. Giving up.", file=sys.stderr)
            self._status = 1
            self._stopping_since = time.monotonic()
            self._signal_all(signal.SIGTERM)
