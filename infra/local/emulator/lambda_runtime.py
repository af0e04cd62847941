"""AWS Lambda: the environment in which a `provided.al2023` function runs."""

import hashlib
import io
import logging
import os
import shutil
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import ministack.core.lambda_runtime as runtime
import ministack.services.lambda_svc as lambda_svc
from ministack.core.responses import get_region

logger = logging.getLogger("emulator.lambda")

LAYERS_MOUNT = "/opt/"

_layers_lock = threading.Lock()
_original_handler_class = runtime.ProvidedWorker._build_handler_class


def apply() -> None:
    lambda_svc._provided_worker_env = worker_environment
    runtime.ProvidedWorker._build_handler_class = handler_class_without_delay


def worker_environment(config: dict[str, Any], code_dir: str, port: int) -> dict[str, str]:
    """A function sees its own configuration and Lambda's variables, and nothing of the emulator's environment.

    ministack hands its whole environment on, so that a variable which the template forgot could still be there.
    The names and values are those of "Defined runtime environment variables":
    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    name = config.get("FunctionName", "unknown")
    logging_config = config.get("LoggingConfig") or {}
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "LAMBDA_TASK_ROOT": code_dir,
        "_HANDLER": config.get("Handler", "bootstrap"),
        "AWS_REGION": get_region(),
        "AWS_DEFAULT_REGION": get_region(),
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.get("MemorySize", 128)),
        "AWS_LAMBDA_FUNCTION_VERSION": config.get("Version", "$LATEST"),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": logging_config.get("LogGroup") or f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": lambda_svc.new_uuid(),
    }
    environment.update(logging_environment(logging_config))
    environment.update(runtime.execution_credentials(config))
    environment.update(function_variables(config))
    # ministack serves S3 by path and has no host names of its own to put a prefix before.
    environment.setdefault(runtime.HOST_PREFIX_ENV, "true")
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        environment["AWS_ENDPOINT_URL"] = endpoint
    return environment


def logging_environment(logging_config: dict[str, Any]) -> dict[str, str]:
    """With advanced logging controls a runtime is told the log format, and with JSON the application's log level.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-build and
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-advanced.html
    """
    log_format = logging_config.get("LogFormat", "Text")
    variables = {"AWS_LAMBDA_LOG_FORMAT": log_format}
    if log_format == "JSON":
        variables["AWS_LAMBDA_LOG_LEVEL"] = logging_config.get("ApplicationLogLevel", "INFO")
    return variables


def function_variables(config: dict[str, Any]) -> dict[str, str]:
    """The function's own variables, where a path below /opt points into the directory that holds its layers.

    Lambda extracts the layers of a function into /opt: https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html
    A function is a plain process here, without a mount of its own, so a path that it learns from a variable is
    rewritten instead. A path below /opt that is written into the binary is not.
    """
    variables = dict(lambda_svc._runtime_env_vars(config))
    if not any(value.startswith(LAYERS_MOUNT) for value in variables.values()):
        return variables
    layers = layers_directory(config.get("Layers") or [])
    return {
        key: str(layers / value.removeprefix(LAYERS_MOUNT)) if value.startswith(LAYERS_MOUNT) else value
        for key, value in variables.items()
    }


def layers_directory(attachments: list[Any]) -> Path:
    """The directory that stands for /opt for these layers, extracted in their order: a later layer wins."""
    archives = [archive for archive in map(lambda_svc._resolve_layer_zip, attachments) if archive]
    digest = hashlib.sha256()
    for archive in archives:
        digest.update(hashlib.sha256(archive).digest())
    root = Path(tempfile.gettempdir()) / f"emulator-layers-{os.environ.get('GATEWAY_PORT', '4566')}"
    target = root / digest.hexdigest()
    with _layers_lock:
        if target.is_dir():
            return target
        root.mkdir(parents=True, exist_ok=True)
        # Extracted beside its place and moved there whole: a directory with the final name is always complete.
        partial = Path(tempfile.mkdtemp(dir=root))
        try:
            for archive in archives:
                with zipfile.ZipFile(io.BytesIO(archive)) as opened:
                    lambda_svc._extract_zip_preserving_mode(opened, str(partial))
            partial.chmod(0o755)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def handler_class_without_delay(worker: Any, generation: int, pending: Any) -> Any:
    """The runtime API answers in one segment and at once.

    ministack writes head and body of an answer separately on a socket with Nagle's algorithm, so the runtime's delayed
    acknowledgement holds the body back for about 40 ms on every invocation. AWS has no such delay.
    """
    handler = _original_handler_class(worker, generation, pending)
    handler.disable_nagle_algorithm = True
    handler.wbufsize = -1
    return handler
