"""The processes of a local stack: started once, recognised by pid and start time, stopped exactly."""

import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 5
PROGRESS_AFTER_SECONDS = 2
LOG_TAIL_LINES = 30


class StackError(Exception):
    """What went wrong and what to do, in words for the person at the terminal. No traceback is shown for it."""


@dataclass(frozen=True)
class Service:
    """A process of the stack as it should run."""

    name: str
    port: int
    health_path: str
    command: list[str]
    environment: dict[str, str]
    fingerprint: str
    """Changes whenever the process has to be started anew: its program, its settings."""


@dataclass(frozen=True)
class Process:
    """A process that was started. The start time tells it from a later one that got the same pid."""

    pid: int
    started: str
    port: int
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def start_time(pid: int) -> str | None:
    """When the process with this pid started, in the system's own form, or None when there is none (or a zombie)."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] == "Z" else fields[19]
    # Without /proc (macOS), ps tells the same.
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = shown.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def is_running(process: Process) -> bool:
    return start_time(process.pid) == process.started


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def require_free(port: int, base_port: int, name: str) -> None:
    if not port_is_free(port):
        raise StackError(
            f"Port {port} (for the {name}) is taken by something that is not part of this stack.\n"
            f"Stop that, or choose another base port: --port {base_port + 100} (ports {base_port + 100} to "
            f"{base_port + 102} would be used)."
        )


def start(service: Service, log: Path) -> Process:
    """Starts the process in a process group of its own, and returns once it answers its health check."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            service.command,
            env=service.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = start_time(child.pid)
    process = Process(child.pid, started or "", service.port, service.fingerprint)
    deadline = time.monotonic() + START_SECONDS_MAX
    with progress(f"starting the {service.name}"):
        while not answers(service):
            if child.poll() is not None:
                raise StackError(
                    f"The {service.name} ended while starting, with status {child.returncode}:\n{tail(log)}"
                )
            if time.monotonic() > deadline:
                stop(process)
                raise StackError(f"The {service.name} did not answer within {START_SECONDS_MAX} s:\n{tail(log)}")
            time.sleep(0.05)
    return process


def answers(service: Service) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{service.port}{service.health_path}", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def stop(process: Process) -> bool:
    """Stops the process and its children, if it is still the one that was started. Says whether it was."""
    if not is_running(process):
        return False
    signal_group(process.pid, signal.SIGTERM)
    if not wait_until(lambda: not is_running(process), STOP_SECONDS_MAX):
        signal_group(process.pid, signal.SIGKILL)
        wait_until(lambda: not is_running(process), STOP_SECONDS_MAX)
    return True


def signal_group(pid: int, number: signal.Signals) -> None:
    # `start` made the process the leader of its own session, so its pid is its group's id, and the group has nobody
    # in it but the process and its children (the emulator's function processes).
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass  # ended between the check and the signal, which is what was wanted


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log file."""
    if not log.exists():
        return f"({log} does not exist)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Prints a line with the seconds gone by for as long as something takes, once it has taken over two seconds."""
    began = time.monotonic()
    done = threading.Event()

    def report() -> None:
        while not done.wait(PROGRESS_AFTER_SECONDS):
            print(f"  {what} … {time.monotonic() - began:.0f} s", flush=True)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()
