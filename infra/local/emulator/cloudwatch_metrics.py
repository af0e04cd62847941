"""Amazon CloudWatch: metrics that AWS services publish by themselves, metrics in log lines, and alarms on them."""

import json
import logging
import os
import threading
import time
from typing import Any

import ministack.services.cloudwatch as cloudwatch
import ministack.services.lambda_svc as lambda_svc
import ministack.services.sqs as sqs

logger = logging.getLogger("emulator.cloudwatch")

MISSING_DATA_STATES = {"notBreaching": "OK", "breaching": "ALARM", "missing": "INSUFFICIENT_DATA"}
"""`ignore`, the fourth way to treat missing data, keeps the state as it is."""
RECEIVES_BEFORE_LEFT_OUT = 3

_original_emit_metrics = lambda_svc._emit_lambda_metrics


def apply() -> None:
    cloudwatch._evaluate_alarm = evaluate_alarm
    lambda_svc._emit_lambda_metrics = emit_throttles_only
    threading.Thread(target=sample_forever, name="emulator-metrics", daemon=True).start()


def record_invocation(function_name: str, log_text: str, error: bool, duration_ms: int) -> None:
    """Every invocation counts in AWS/Lambda, whoever invoked; its EMF log lines become metrics.

    ministack counts calls of the Invoke API alone, so that errors behind an HTTP API or a queue would not show.
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    """
    _original_emit_metrics(function_name, float(duration_ms), error, False)
    record_embedded_metrics(log_text)


def emit_throttles_only(function_name: str, duration_ms: float, error: bool, throttle: bool) -> None:
    """What ministack counts at the Invoke API; only throttles, since `record_invocation` counts what ran."""
    if throttle:
        _original_emit_metrics(function_name, duration_ms, error, throttle)


def record_embedded_metrics(log_text: str) -> None:
    """Publishes the metrics of each line in the embedded metric format.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    A line that is not valid EMF is left to be what it is, a log line.
    """
    for line in log_text.splitlines():
        if '"_aws"' not in line:
            continue
        try:
            document = json.loads(line)
            for directive in document["_aws"]["CloudWatchMetrics"]:
                record_directive(document, directive)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            logger.warning("not a valid EMF line (%r): %.200s", problem, line)


def record_directive(document: dict[str, Any], directive: dict[str, Any]) -> None:
    for names in directive.get("Dimensions") or [[]]:
        dimensions = {name: str(document[name]) for name in names}
        for metric in directive["Metrics"]:
            value = document[metric["Name"]]
            for number in value if isinstance(value, list) else [value]:
                cloudwatch.record_metric(
                    directive["Namespace"], metric["Name"], float(number), metric.get("Unit", "None"), dimensions
                )


def sample_forever() -> None:
    """Publishes queue depths and evaluates all alarms, every few seconds (AWS: every minute)."""
    pause_seconds = float(os.environ.get("EMULATOR_METRIC_SECONDS", "2"))
    while True:
        time.sleep(pause_seconds)
        try:
            sample_queues(time.time())
            cloudwatch._evaluate_all_alarms()
        except Exception:
            logger.exception("sampling failed; the next sample tries again")


def sample_queues(now: float) -> None:
    """AWS/SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html"""
    for url, queue in list(sqs._queues.items()):
        messages = list(queue["messages"])
        visible = sum(1 for message in messages if message["visible_at"] <= now)
        delayed = sum(1 for message in messages if message["visible_at"] > now and not message.get("receive_count"))
        # SQS puts what was received three times or more to the back and looks at the oldest of the others.
        waiting = [message for message in messages if message.get("receive_count", 0) < RECEIVES_BEFORE_LEFT_OUT]
        oldest = max((now - message["sent_at"] for message in waiting), default=0.0)
        dimensions = {"QueueName": url.rsplit("/", 1)[-1]}
        for name, value, unit in (
            ("ApproximateNumberOfMessagesVisible", visible, "Count"),
            ("ApproximateNumberOfMessagesDelayed", delayed, "Count"),
            ("ApproximateNumberOfMessagesNotVisible", len(messages) - visible - delayed, "Count"),
            ("ApproximateAgeOfOldestMessage", oldest, "Seconds"),
        ):
            cloudwatch.record_metric("AWS/SQS", name, value, unit, dimensions)


def evaluate_alarm(alarm: dict[str, Any]) -> None:
    """An alarm watches the one metric that has exactly its dimensions, period by period, and minds missing data.

    In ALARM when DatapointsToAlarm of the last EvaluationPeriods periods breach. ministack takes all metrics of a name
    and all periods together, and never leaves ALARM for want of data. Periods end now here, on the minute on AWS.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
    """
    if not alarm.get("Namespace") or not alarm.get("MetricName"):
        return
    statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
    operator, threshold = alarm.get("ComparisonOperator", ""), float(alarm.get("Threshold", 0))
    treatment = alarm.get("TreatMissingData") or "missing"
    values = values_by_period(alarm, statistic, time.time())
    present = [value for value in values if value is not None]
    if not present:
        state = MISSING_DATA_STATES.get(treatment, alarm["StateValue"])
        reason = f"No data, treated as {treatment}"
    else:
        breaching = sum(breaches(value, operator, threshold) for value in present)
        if treatment == "breaching":
            breaching += len(values) - len(present)
        state = "ALARM" if breaching >= int(alarm.get("DatapointsToAlarm") or len(values)) else "OK"
        reason = f"Threshold Crossed: {breaching} of {len(values)} periods with {statistic} {operator} {threshold}"
    if state != alarm["StateValue"]:
        change_state(alarm, state, reason)


def values_by_period(alarm: dict[str, Any], statistic: str, now: float) -> list[float | None]:
    """The statistic in each of the alarm's periods, newest first; None where there is no data."""
    declared = alarm.get("Dimensions") or {}
    if isinstance(declared, list):
        declared = {dimension["Name"]: dimension["Value"] for dimension in declared}
    key = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(declared))
    period = int(alarm.get("Period") or 60)
    periods: list[list[Any]] = [[] for _ in range(int(alarm.get("EvaluationPeriods") or 1))]
    for point in reversed(list(cloudwatch._metrics.get(key) or [])):
        index = int(max(now - point["Timestamp"], 0) // period)
        if index >= len(periods):
            break  # services publish in the order of time: what comes before this point is older still
        periods[index].append(point)
    return [
        cloudwatch._stat_value(cloudwatch._calc_stats(recent), statistic, recent) if recent else None
        for recent in periods
    ]


def breaches(value: float, operator: str, threshold: float) -> bool:
    return {
        "GreaterThanOrEqualToThreshold": value >= threshold,
        "GreaterThanThreshold": value > threshold,
        "LessThanThreshold": value < threshold,
        "LessThanOrEqualToThreshold": value <= threshold,
    }.get(operator, False)


def change_state(alarm: dict[str, Any], state: str, reason: str) -> None:
    """Records the change and notifies, in the order that ministack keeps."""
    before = alarm["StateValue"]
    alarm.update({"StateValue": state, "StateReason": reason, "StateUpdatedTimestamp": int(time.time())})
    cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
    cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
    cloudwatch._evaluate_parent_alarms(alarm)
