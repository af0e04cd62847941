"""AWS Lambda: what becomes of a function's output: log lines, and the metrics in them."""

import contextvars
import json
import logging
from datetime import UTC, datetime
from typing import Any

import ministack.services.cloudwatch_logs as cloudwatch_logs
import ministack.services.lambda_svc as lambda_svc

from emulator import cloudwatch_metrics

logger = logging.getLogger("emulator.lambda_logs")

PLATFORM_PREFIXES = ("START RequestId: ", "END RequestId: ", "REPORT RequestId: ")
SYSTEM_LEVELS_WITH_REPORTS = ("DEBUG", "INFO")

_original_emit = lambda_svc._emit_lambda_logs
_original_append = cloudwatch_logs._append_log_events
_report: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("report", default=None)
"""What stands in for the text lines while the logs of a JSON function are written; None for everything else."""


def apply() -> None:
    lambda_svc._emit_lambda_logs = emit_logs
    cloudwatch_logs._append_log_events = append_events


def emit_logs(
    function: dict[str, Any], request_id: str, log_text: str, error: bool, duration_ms: int, **named: Any
) -> None:
    """Counts the invocation and writes its log.

    With `LogFormat: JSON` the platform's lines are JSON too, as far as SystemLogLevel lets them through: at INFO a
    `platform.report` for each invocation; at WARN, where only trouble is logged, for one that failed.
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-advanced.html and
    https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
    """
    config = function.get("config") or function
    cloudwatch_metrics.record_invocation(config.get("FunctionName", "unknown"), log_text or "", error, duration_ms)
    logging_config = config.get("LoggingConfig") or {}
    if logging_config.get("LogFormat") != "JSON":
        _original_emit(function, request_id, log_text, error, duration_ms, **named)
        return
    lines = []
    if error or logging_config.get("SystemLogLevel", "INFO") in SYSTEM_LEVELS_WITH_REPORTS:
        lines.append(platform_report(request_id, error, duration_ms))
    token = _report.set(lines)
    try:
        _original_emit(function, request_id, log_text, error, duration_ms, **named)
    finally:
        _report.reset(token)


def platform_report(request_id: str, error: bool, duration_ms: int) -> str:
    return json.dumps(
        {
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "type": "platform.report",
            "record": {
                "requestId": request_id,
                "status": "error" if error else "success",
                "metrics": {"durationMs": duration_ms, "billedDurationMs": duration_ms},
            },
        }
    )


def append_events(stream: dict[str, Any], events: list[dict[str, Any]]) -> None:
    """Leaves ministack's text lines out and puts the report after what the function logged, for a JSON function."""
    report = _report.get()
    if report is not None and events:
        last = events[-1]
        events = [event for event in events if not event["message"].startswith(PLATFORM_PREFIXES)]
        events += [{**last, "message": line} for line in report]
    _original_append(stream, events)
