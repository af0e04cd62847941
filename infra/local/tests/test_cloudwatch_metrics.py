"""cloudwatch_metrics: metrics in log lines, of queues and functions, and alarms on them."""

import json
import time
from typing import Any

import pytest
from conftest import Mini, eventually

import emulator.cloudwatch_metrics as cloudwatch_metrics


def total(mini: Mini, namespace: str, name: str, dimensions: dict[str, str], statistic: str = "Sum") -> float:
    points = mini.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=time.time() - 600,
        EndTime=time.time() + 60,
        Period=3600,
        Statistics=[statistic],
    )["Datapoints"]
    return sum(point[statistic] for point in points)


def test_an_embedded_metric_is_published_and_raises_its_alarm(mini: Mini) -> None:
    alarms = mini.client("cloudwatch")

    def state() -> str:
        return alarms.describe_alarms(AlarmNames=[mini.outputs["AlarmName"]])["MetricAlarms"][0]["StateValue"]

    eventually(lambda: state() == "OK")  # TreatMissingData: notBreaching
    mini.request("metric")
    assert total(mini, "Mini", "Failures", {"Source": "github"}) == 2
    eventually(lambda: state() == "ALARM")


def test_a_line_that_is_not_valid_emf_is_only_a_line() -> None:
    cloudwatch_metrics.record_embedded_metrics('{"_aws": 1}\n{"_aws"\n{"_aws": {"CloudWatchMetrics": [{}]}}')


def test_an_invocation_behind_the_http_api_counts_for_its_function(mini: Mini) -> None:
    function = {"FunctionName": mini.outputs["WebName"]}
    errors, invocations = (total(mini, "AWS/Lambda", name, function) for name in ("Errors", "Invocations"))
    mini.request("echo")
    mini.request("raise")
    assert total(mini, "AWS/Lambda", "Errors", function) == errors + 1
    assert total(mini, "AWS/Lambda", "Invocations", function) == invocations + 2


def test_queue_depths_are_published(mini: Mini) -> None:
    sqs = mini.client("sqs")
    sqs.send_message(QueueUrl=sqs.create_queue(QueueName="depth")["QueueUrl"], MessageBody=json.dumps({}))
    depth = ("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "depth"}, "Maximum")
    eventually(lambda: total(mini, *depth) == 1)


@pytest.mark.parametrize(
    ("by_period", "settings", "state"),
    [
        ([1, 0, 0], {}, "OK"),
        ([1, 1, 1], {}, "ALARM"),
        ([1, 0, 1], {"DatapointsToAlarm": 2}, "ALARM"),
        ([None, None, None], {"TreatMissingData": "notBreaching"}, "OK"),
        ([None, None, None], {"TreatMissingData": "breaching"}, "ALARM"),
        ([None, None, None], {"TreatMissingData": "ignore"}, "as before"),
        ([None, None, None], {}, "INSUFFICIENT_DATA"),
        ([1, None, None], {"TreatMissingData": "breaching"}, "ALARM"),
        ([1, None, None], {"TreatMissingData": "notBreaching"}, "OK"),
    ],
)
def test_an_alarm_needs_enough_breaching_periods(
    monkeypatch: pytest.MonkeyPatch, by_period: list[Any], settings: dict[str, Any], state: str
) -> None:
    now = time.time()
    points = [
        {"Timestamp": now - 60 * age - 30, "Value": float(value), "Unit": "Count", "Dimensions": {}}
        for age, value in reversed(list(enumerate(by_period)))
        if value is not None
    ]
    changes: list[str] = []
    monkeypatch.setattr(cloudwatch_metrics.cloudwatch, "_metrics", {("N", "M", "D=d"): points, ("N", "M", ""): []})
    monkeypatch.setattr(cloudwatch_metrics, "change_state", lambda _alarm, new, _reason: changes.append(new))
    alarm = {
        "AlarmName": "a",
        "Namespace": "N",
        "MetricName": "M",
        "Dimensions": [{"Name": "D", "Value": "d"}],
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 3,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "StateValue": "as before",
        **settings,
    }
    cloudwatch_metrics.evaluate_alarm(alarm)
    assert changes == ([] if state == "as before" else [state])
