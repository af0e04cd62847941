"""A local stack for development and tests: the real template and binaries, on an AWS emulator on this machine.

    stack.py up       start what is not running, deploy what has changed, write outputs.json
    stack.py deploy   deploy to a stack that is up
    stack.py status   what runs, and the outputs
    stack.py logs     the last log lines of the processes, or of one function
    stack.py down     stop exactly the processes that `up` started; all data of the stack is gone with them

A stack with base port P uses P (AWS), P+1 (wire: what functions call, passed on to P) and P+2 (destination).
"""

import argparse
import fcntl
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import artifacts
import processes
import targets
from processes import HOST, Process, Service, StackError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STATE_ROOT = ROOT / ".local"
DEFAULT_NAME = "demo"
DEFAULT_PORT = 4566
THROTTLE = {"ThrottleRequestsPerSecond": "30", "ThrottleBurstRequests": "120"}
"""About what the emulator takes on a small machine. Above it API Gateway answers 429, as at the template's limits."""
INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL")
"""Nothing else of the caller's environment reaches the stack: no profile, no credentials, no proxy."""


@dataclass
class State:
    """What is known of a stack between two commands; kept in .local/<name>/state.json."""

    directory: Path
    port: int = 0
    processes: dict[str, Process] = field(default_factory=dict)
    deployed: str = ""
    """The fingerprint of what was deployed last to the emulator that runs now."""
    digests: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path) -> "State":
        try:
            stored = json.loads((directory / "state.json").read_text())
        except FileNotFoundError:
            return cls(directory)
        running = {name: Process(**record) for name, record in stored.pop("processes").items()}
        return cls(directory, processes=running, **stored)

    def save(self) -> None:
        stored = {
            "port": self.port,
            "processes": {name: process.to_json() for name, process in self.processes.items()},
            "deployed": self.deployed,
            "digests": self.digests,
        }
        write_whole(self.directory / "state.json", json.dumps(stored, indent=2))

    def log(self, service: str) -> Path:
        return self.directory / f"{service}.log"

    def is_up(self, service: str) -> bool:
        return service in self.processes and processes.is_running(self.processes[service])


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    directory = options.state / options.name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory):
            commands = {"up": up, "deploy": deploy, "down": down, "status": status, "logs": logs}
            return commands[options.command](options, State.load(directory))
    except StackError as problem:
        print(problem, file=sys.stderr)
        return 1


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="stack.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "deploy", "down", "status", "logs"):
        command = commands.add_parser(name)
        command.add_argument("--name", default=DEFAULT_NAME, help="the stack (default: %(default)s)")
        command.add_argument("--state", type=Path, default=STATE_ROOT, help=argparse.SUPPRESS)
        if name in ("up", "deploy"):
            command.add_argument("--template", type=Path, default=ROOT / "infra" / "template.yaml")
            command.add_argument("--binaries", type=Path, default=ROOT / "target" / "local")
            command.add_argument("--config", type=Path, default=HERE / "gateway")
            command.add_argument(
                "--parameter",
                metavar="NAME=VALUE",
                action="append",
                default=[],
                type=parameter,
                help="a parameter of the template; may be given again",
            )
        if name == "up":
            command.add_argument("--port", type=int, help=f"base port of the three (default: {DEFAULT_PORT})")
            command.add_argument(
                "--direct", action="store_true", help="no wire and no destination: functions call the emulator itself"
            )
        if name == "logs":
            command.add_argument("of", nargs="?", help="emulator, wire, destination, or part of a function's name")
            command.add_argument("--lines", "-n", type=int, default=processes.LOG_TAIL_LINES)
    return parser.parse_args(arguments)


def parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"`{text}` is not NAME=VALUE")
    return name, value


def up(options: argparse.Namespace, state: State) -> int:
    """Starts what is not running, restarts what has changed, deploys if anything that is deployed has changed."""
    began = time.monotonic()
    port = options.port or state.port or DEFAULT_PORT
    if state.port and state.port != port and any(state.is_up(name) for name in state.processes):
        raise StackError(
            f"{options.name} runs at port {state.port}. Stop it first: stack.py down --name {options.name}"
        )
    template = artifacts.load_template(options.template)
    programs = [] if options.direct else ["wire", "destination"]
    artifacts.require_binaries([*artifacts.binaries_of(template).values(), *programs], options.binaries)
    services = services_of(options, state, port)
    stop_outdated(state, services)
    for service in services:
        if not state.is_up(service.name):
            processes.require_free(service.port, port, service.name)
    state.port = port
    for service in services:
        if not state.is_up(service.name):
            if service.name == "emulator":
                state.deployed = ""  # a new emulator is empty
            state.processes[service.name] = processes.start(service, state.log(service.name))
            state.save()
    changed = deploy_if_changed(options, state, template)
    print(f"{options.name} is up at http://{HOST}:{port} ({changed}, {time.monotonic() - began:.1f} s)")
    show_outputs(state)
    return 0


def deploy(options: argparse.Namespace, state: State) -> int:
    """Deploys to a stack that is up."""
    if not state.is_up("emulator"):
        raise StackError(f"{options.name} is not up. Start it with: stack.py up --name {options.name}")
    template = artifacts.load_template(options.template)
    artifacts.require_binaries(list(artifacts.binaries_of(template).values()), options.binaries)
    print(f"{options.name}: {deploy_if_changed(options, state, template)}")
    show_outputs(state)
    return 0


def down(options: argparse.Namespace, state: State) -> int:
    """Stops what `up` started, and nothing else. Without anything to stop it says so and succeeds."""
    stopped = [name for name in reversed(state.processes) if processes.stop(state.processes[name])]
    state.processes, state.deployed = {}, ""
    (state.directory / "outputs.json").unlink(missing_ok=True)
    state.save()
    print(f"{options.name}: stopped {', '.join(stopped)}" if stopped else f"{options.name} was not running")
    return 0


def status(options: argparse.Namespace, state: State) -> int:
    """Says what runs; succeeds if all of it does."""
    if not state.processes:
        print(f"{options.name} is not running")
        return 1
    for name, process in state.processes.items():
        print(f"{name:12} {'up' if state.is_up(name) else 'DOWN':5} port {process.port}  pid {process.pid}")
    show_outputs(state)
    return 0 if all(state.is_up(name) for name in state.processes) else 1


def logs(options: argparse.Namespace, state: State) -> int:
    """The last lines of the processes' logs, or of the functions whose names contain `of`."""
    if options.of and options.of not in ("emulator", "wire", "destination"):
        return function_logs(options, state)
    for name in [options.of] if options.of else state.processes:
        print(f"==> {state.log(name)}")
        print(processes.tail(state.log(name), options.lines))
    return 0


def function_logs(options: argparse.Namespace, state: State) -> int:
    import deployment  # botocore takes a noticeable part of a second to load; only what needs it loads it

    if not state.is_up("emulator"):
        raise StackError(f"{options.name} is not up; the functions' logs are gone with it.")
    client = deployment.client("logs", state.port)
    groups = [group["logGroupName"] for group in client.describe_log_groups()["logGroups"]]
    for group in groups:
        if options.of.lower() not in group.lower():
            continue
        print(f"==> {group}")
        events = client.filter_log_events(logGroupName=group, limit=10_000)["events"]
        for event in events[-options.lines :]:
            print(event["message"].rstrip())
    return 0


def services_of(options: argparse.Namespace, state: State, port: int) -> list[Service]:
    """The processes of the stack, in the order in which they are started."""
    wanted = [emulator_service(state, port, direct=options.direct)]
    if not options.direct:
        upstream = ["--upstream", f"{HOST}:{port}"]
        wanted.append(program_service(options, state, "wire", port + 1, upstream))
        wanted.append(program_service(options, state, "destination", port + 2, []))
    return wanted


def emulator_service(state: State, port: int, *, direct: bool) -> Service:
    # Temporary files of the emulator and of nothing else: extracted functions and layers, its pid file.
    temporary = state.directory / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = inherited() | {
        "PYTHONPATH": str(HERE),
        "TMPDIR": str(temporary),
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port if direct else port + 1}",
        "AUTH": "true",
        "MINISTACK_HOST": HOST,
        "MINISTACK_REGION": "us-east-1",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    sources = [artifacts.file_digest(path, state.digests) for path in sorted((HERE / "emulator").glob("*.py"))]
    return Service(
        "emulator",
        port,
        "/_ministack/health",
        [sys.executable, "-m", "emulator"],
        environment,
        artifacts.fingerprint(sources, environment, sys.executable),
    )


def program_service(options: argparse.Namespace, state: State, name: str, port: int, arguments: list[str]) -> Service:
    program = (options.binaries / name).resolve()
    command = [str(program), "--listen", f"{HOST}:{port}", *arguments]
    digest = artifacts.file_digest(program, state.digests)
    return Service(name, port, "/_health", command, inherited(), artifacts.fingerprint(digest, command))


def inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}


def stop_outdated(state: State, services: list[Service]) -> None:
    """Stops what runs from an older program or with other settings, and what is not wanted any more."""
    wanted = {service.name: service.fingerprint for service in services}
    for name, process in list(state.processes.items()):
        if process.fingerprint != wanted.get(name):
            if processes.stop(process):
                lost = "; the data in it is gone" if name == "emulator" else ""
                print(f"  stopped the {name}, which has changed{lost}")
            del state.processes[name]


def deploy_if_changed(options: argparse.Namespace, state: State, template: artifacts.Template) -> str:
    """Deploys if the template, a binary, the configuration or a parameter is not what was deployed last."""
    binaries = artifacts.binaries_of(template)
    has_layer = bool(artifacts.resources_of(template, artifacts.LAYER))
    config = artifacts.local_config(options.config, state.port + 2) if has_layer else None
    beside = artifacts.beside_config(options.config) if has_layer else {}
    parameters = parameters_of(template, dict(options.parameter))
    wanted = artifacts.fingerprint(
        template,
        [artifacts.file_digest(options.binaries / binary, state.digests) for binary in sorted(set(binaries.values()))],
        config,
        {name: hashlib.sha256(content).hexdigest() for name, content in beside.items()},
        parameters,
        targets.FUNCTION_SOURCE.read_text(),
    )
    if wanted == state.deployed and (state.directory / "outputs.json").exists():
        return "nothing has changed"
    secrets = artifacts.secrets_of(config or b"")
    import deployment  # botocore takes a noticeable part of a second to load; only what needs it loads it

    try:
        with processes.progress("packaging and uploading the functions"):
            packaged = artifacts.package(template, options.binaries, config, deployment.uploader(state.port), beside)
        outputs = deployment.deploy(state.port, options.name, packaged, parameters)
        # After the template's own, which would meet them otherwise.
        deployment.create_secrets(state.port, options.name, secrets)
        if targets.PARAMETERS.keys() <= template.get("Parameters", {}).keys():
            targets.create(lambda service: deployment.client(service, state.port), f"http://{HOST}:{state.port + 2}")
    except StackError as problem:
        emulator_log = state.log("emulator")
        raise StackError(f"{problem}\n\nThe end of {emulator_log}:\n{processes.tail(emulator_log)}") from None
    described: dict[str, Any] = {**outputs, "StackName": options.name, "Port": state.port, "Region": deployment.REGION}
    write_whole(state.directory / "outputs.json", json.dumps(described, indent=2) + "\n")
    state.deployed = wanted
    state.save()
    return "deployed"


def parameters_of(template: artifacts.Template, given: dict[str, str]) -> dict[str, str]:
    """The parameters that a local stack sets, as far as the template has them, and those that are given."""
    known = template.get("Parameters") or {}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise StackError(f"the template has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    local = {"Architecture": architecture, "StageName": "local", **THROTTLE, **targets.PARAMETERS}
    return {name: value for name, value in local.items() if name in known} | given


def show_outputs(state: State) -> None:
    try:
        outputs = json.loads((state.directory / "outputs.json").read_text())
    except FileNotFoundError:
        return
    for name, value in outputs.items():
        print(f"  {name} = {value}")


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One command at a time for each stack; a second one waits for the first."""
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("  waiting for another stack.py on this stack", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a reader finds either its old content or its new, never a part."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        # Whoever read our output (`stack.py logs | head`) has seen enough. What is left to flush has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
