"""Amazon API Gateway, HTTP APIs: a stage around a request: throttle, metrics, access log, OPTIONS without CORS."""

import json
import logging
import re
import time
from collections.abc import Mapping
from typing import Any

import ministack.services.apigateway as apigateway
import ministack.services.cloudwatch as cloudwatch
import ministack.services.cloudwatch_logs as cloudwatch_logs
from ministack.core.responses import new_uuid

logger = logging.getLogger("emulator.http_api_stage")

ROUTED_OPTIONS = "OPTIONS to the route"
"""Stands in for OPTIONS where ministack would answer by itself; `http_api.invoke_proxy` turns it back."""
CONTEXT_VARIABLE = re.compile(r"\$context\.([A-Za-z.]+)")
ACCESS_LOG_STREAM = "http-api"

Response = tuple[int, dict[str, Any], bytes]

_buckets: dict[tuple[str, str], tuple[float, float]] = {}
"""By API and stage: the requests that it would take at this instant, and when that was so."""

_original_handle = apigateway._handle_execute_in_scope


def apply() -> None:
    apigateway._handle_execute_in_scope = handle


async def handle(
    api_id: str, stage: str, path: str, method: str, headers: Any, body: bytes, *rest: Any, **named: Any
) -> Response:
    """Serves the request, unless it is throttled, then publishes the API's metrics and writes the stage's access log.

    Without a CORS configuration, OPTIONS is a method like any other and belongs to the route:
    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html
    """
    began = time.time()
    api = apigateway._apis.get(api_id) or {}
    routed = ROUTED_OPTIONS if method == "OPTIONS" and not api.get("corsConfiguration") else method
    response: Response
    if is_throttled(api_id, stage, began):
        response = 429, {"Content-Type": "application/json"}, json.dumps({"message": "Too Many Requests"}).encode()
    else:
        response = await _original_handle(api_id, stage, path, routed, headers, body, *rest, **named)
    milliseconds = round((time.time() - began) * 1000)
    publish_metrics(api_id, response[0], milliseconds)
    settings = (apigateway._stages.get(api_id, {}).get(stage) or {}).get("accessLogSettings")
    if settings and settings.get("format"):
        route = apigateway._match_route(api_id, routed, "/" + path.lstrip("/"))
        write_access_log(
            settings,
            {
                "requestId": new_uuid(),
                "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(began)),
                "requestTimeEpoch": str(round(began * 1000)),
                "apiId": api_id,
                "stage": stage,
                "identity.sourceIp": "127.0.0.1",
                "httpMethod": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "routeKey": route["routeKey"] if route else "-",
                "status": str(response[0]),
                "responseLength": str(len(response[2])),
                "responseLatency": str(milliseconds),
                "integrationLatency": str(milliseconds) if route else "-",
                "integration.integrationStatus": "200" if route else "-",
            },
        )
    return response


def is_throttled(api_id: str, stage: str, now: float) -> bool:
    """Takes a request out of the stage's bucket, if there is one left.

    "API Gateway throttles requests to your API using the token bucket algorithm, where a token counts for a request.
    […] Clients may receive 429 Too Many Requests error responses at this point." AWS does so on a best-effort basis;
    here it is exact.
    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-throttling.html
    """
    settings = (apigateway._stages.get(api_id, {}).get(stage) or {}).get("defaultRouteSettings") or {}
    # From a template the names begin with a capital, and numbers from its parameters are text.
    declared = {name[:1].lower() + name[1:]: value for name, value in settings.items()}
    if "throttlingRateLimit" not in declared or "throttlingBurstLimit" not in declared:
        return False
    rate, burst = float(declared["throttlingRateLimit"]), float(declared["throttlingBurstLimit"])
    left, since = _buckets.get((api_id, stage), (burst, now))
    left = min(burst, left + max(now - since, 0) * rate)
    is_empty = left < 1
    _buckets[api_id, stage] = left if is_empty else left - 1, now
    return is_empty


def publish_metrics(api_id: str, status: int, milliseconds: int) -> None:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-metrics.html"""
    dimensions = {"ApiId": api_id}
    cloudwatch.record_metric("AWS/ApiGateway", "Count", 1, "Count", dimensions)
    cloudwatch.record_metric("AWS/ApiGateway", "4xx", int(400 <= status < 500), "Count", dimensions)
    cloudwatch.record_metric("AWS/ApiGateway", "5xx", int(status >= 500), "Count", dimensions)
    cloudwatch.record_metric("AWS/ApiGateway", "Latency", milliseconds, "Milliseconds", dimensions)


def write_access_log(settings: Mapping[str, str], context: Mapping[str, str]) -> None:
    """One line in the stage's format; a variable without a value is `-`.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging-variables.html
    """
    group_name = settings.get("destinationArn", "").partition(":log-group:")[2].removesuffix(":*")
    group = cloudwatch_logs._log_groups.get(group_name)
    if group is None:
        return  # AWS drops the lines too when the group is gone
    now = int(time.time() * 1000)
    stream = group["streams"].setdefault(
        ACCESS_LOG_STREAM,
        {
            "events": [],
            "uploadSequenceToken": "1",
            "creationTime": now,
            "firstEventTimestamp": None,
            "lastEventTimestamp": None,
            "lastIngestionTime": None,
        },
    )
    line = CONTEXT_VARIABLE.sub(lambda found: context.get(found[1], "-"), settings["format"])
    cloudwatch_logs._append_log_events(stream, [{"timestamp": now, "message": line, "ingestionTime": now}])
