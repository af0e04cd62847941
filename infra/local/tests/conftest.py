"""One small stack for all tests: tests/mini/template.yaml on an emulator of its own, at ports that are free."""

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import deployment  # noqa: E402
import stack  # noqa: E402

MINI = HERE / "mini"
WAIT_SECONDS_MAX = 20


def eventually(condition: Callable[[], Any], seconds: float = WAIT_SECONDS_MAX) -> Any:
    """The first answer of the condition that is true; fails when none came in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds} s"
        time.sleep(0.05)


def free_base_port() -> int:
    """A port that is free together with the two above it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 65000 and all(stack.processes.port_is_free(port + offset) for offset in range(3)):
            return port


@dataclass
class Mini:
    """The small stack, and what a test does with it."""

    state: Path
    options: list[str]
    outputs: dict[str, Any]

    @property
    def port(self) -> int:
        return int(self.outputs["Port"])

    def client(self, service: str) -> Any:
        return deployment.client(service, self.port)

    def command(self, name: str, *extra: str) -> int:
        return stack.main([name, *self.options, *extra])

    def request(self, action: str, **named: Any) -> tuple[int, Any]:
        """An HTTP request to the API: its status, and its body parsed."""
        status, _, body = self.raw_request("/v1/webhooks/" + action, **named)
        return status, json.loads(body)

    def raw_request(
        self, path: str, method: str = "POST", body: bytes = b"{}", content_type: str = "application/json"
    ) -> tuple[int, dict[str, str], bytes]:
        import http.client

        base = self.outputs["WebhookUrl"].removesuffix("/v1/webhooks").partition(f":{self.port}")[2]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, base + path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()

    def log_lines(self, group: str) -> list[str]:
        events = self.client("logs").filter_log_events(logGroupName=group, limit=10_000)["events"]
        return [event["message"] for event in events]


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the one binary of the small stack: its Python program, made executable."""
    directory = tmp_path_factory.mktemp("binaries")
    program = directory / "mini"
    program.write_text(f"#!{sys.executable}\n{(MINI / 'bootstrap.py').read_text()}")
    program.chmod(0o755)
    return directory


@pytest.fixture(scope="session")
def mini(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mini]:
    state = tmp_path_factory.mktemp("state")
    named = ["--name", "mini", "--state", str(state)]
    files = ["--template", MINI / "template.yaml", "--binaries", binaries, "--config", MINI / "gateway.toml"]
    options = [*named, *map(str, files)]
    started = stack.main(["up", *options, "--direct", "--port", str(free_base_port())])
    try:
        assert started == 0, stack.processes.tail(state / "mini" / "emulator.log")
        yield Mini(state / "mini", options, json.loads((state / "mini" / "outputs.json").read_text()))
    finally:
        stack.main(["down", *named])
