"""http_api and http_api_stage: routes of an OpenAPI body, methods, bodies, sizes, access log, metrics."""

import json
import time

import pytest
from conftest import Mini, eventually

import emulator.http_api as http_api
import emulator.http_api_stage as http_api_stage

MIB = 1024 * 1024


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_any_takes_every_method(mini: Mini, method: str) -> None:
    status, event = mini.request("echo", method=method)
    assert (status, event["requestContext"]["http"]["method"]) == (200, method)
    assert event["routeKey"] == "ANY /v1/webhooks/{source}"
    assert event["pathParameters"] == {"source": "echo"}


def test_the_answer_to_head_has_no_body(mini: Mini) -> None:
    status, _, body = mini.raw_request("/v1/webhooks/echo", method="HEAD", body=b"")
    assert (status, body) == (200, b"")


def test_the_query_is_handed_over_as_it_was_sent(mini: Mini) -> None:
    status, event = mini.request("echo?hub.mode=a%20b&hub.mode=c+d&e", method="GET", body=b"")
    assert (status, event["rawQueryString"]) == (200, "hub.mode=a%20b&hub.mode=c+d&e")
    assert event["rawPath"] == "/v1/webhooks/echo"


def test_repeated_headers_are_joined_by_commas_alone() -> None:
    headers = [(b"X-A", b"1"), (b"x-b", b"2, 3"), (b"x-a", b"4")]
    assert http_api.joined(headers) == [(b"x-a", b"1,4"), (b"x-b", b"2, 3")]


def test_another_path_is_not_found(mini: Mini) -> None:
    assert mini.raw_request("/v2")[0] == 404


def test_a_body_that_is_not_text_travels_in_base64(mini: Mini) -> None:
    _, event = mini.request("echo", body=b"\xff\x00", content_type="application/octet-stream")
    assert (event["body"], event["isBase64Encoded"]) == ("/wA=", True)
    _, event = mini.request("echo", body=b"a=b", content_type="application/x-www-form-urlencoded")
    assert (event["body"], event["isBase64Encoded"]) == ("YT1i", True)
    _, event = mini.request("echo", body='{"ä": 1}'.encode(), content_type="application/json; charset=utf-8")
    assert (event["body"], event["isBase64Encoded"]) == ('{"ä": 1}', False)


@pytest.mark.parametrize(
    ("size", "content_type", "status"),
    [
        (6 * MIB - 1000, "text/plain", 200),
        (6 * MIB + 1, "text/plain", 413),
        (6 * MIB // 4 * 3 - 3, "application/octet-stream", 200),
        (6 * MIB // 4 * 3 + 3, "application/octet-stream", 413),
        (10 * MIB + 1, "text/plain", 413),
    ],
)
def test_a_body_has_to_fit_into_an_invocation(mini: Mini, size: int, content_type: str, status: int) -> None:
    assert mini.raw_request("/v1/webhooks/config", body=b"a" * size, content_type=content_type)[0] == status


def test_each_request_has_a_line_in_the_access_log(mini: Mini) -> None:
    mini.request("echo", method="PUT")
    expected = {"method": "PUT", "path": "/v1/webhooks/echo", "status": "200", "absent": "-"}
    eventually(lambda: expected in map(json.loads, mini.log_lines(mini.outputs["AccessLogGroup"])))


def test_a_stage_takes_its_burst_at_once_and_then_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"ThrottlingRateLimit": "2", "ThrottlingBurstLimit": "3"}
    monkeypatch.setattr(http_api_stage.apigateway, "_stages", {"api": {"$default": {"defaultRouteSettings": settings}}})
    monkeypatch.setattr(http_api_stage, "_buckets", {})
    at_once = [http_api_stage.is_throttled("api", "$default", 1000.0) for _ in range(4)]
    assert at_once == [False, False, False, True]
    assert http_api_stage.is_throttled("api", "$default", 1000.4)
    assert not http_api_stage.is_throttled("api", "$default", 1000.5)
    after_long = [http_api_stage.is_throttled("api", "$default", 2000.0) for _ in range(4)]
    assert after_long == [False, False, False, True]


def test_above_its_throttle_a_stage_answers_429(mini: Mini) -> None:
    api, gateway = mini.outputs["ApiId"], mini.client("apigatewayv2")
    settings = {"ThrottlingRateLimit": 0.001, "ThrottlingBurstLimit": 1}
    gateway.update_stage(ApiId=api, StageName="$default", DefaultRouteSettings=settings)
    try:
        answers = [mini.raw_request("/v1/webhooks/echo") for _ in range(2)]
    finally:
        gateway.update_stage(ApiId=api, StageName="$default", DefaultRouteSettings={})
    assert [status for status, _, _ in answers] == [200, 429]
    assert json.loads(answers[1][2]) == {"message": "Too Many Requests"}
    assert mini.raw_request("/v1/webhooks/echo")[0] == 200


def test_server_errors_are_counted_by_api(mini: Mini) -> None:
    cloudwatch = mini.client("cloudwatch")

    def errors() -> float:
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/ApiGateway",
            MetricName="5xx",
            Dimensions=[{"Name": "ApiId", "Value": mini.outputs["ApiId"]}],
            StartTime=time.time() - 600,
            EndTime=time.time() + 60,
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in points)

    before = errors()
    mini.request("raise")
    assert errors() == before + 1
