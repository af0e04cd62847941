"""Amazon API Gateway, HTTP APIs: APIs that a template gives as an OpenAPI document; errors and limits of the proxy."""

import json
import logging
from typing import Any

import ministack.app as app
import ministack.services.apigateway as apigateway
import ministack.services.cloudformation.provisioners as provisioners
import ministack.services.lambda_svc as lambda_svc
from ministack.core.responses import new_uuid

from emulator import http_api_stage

logger = logging.getLogger("emulator.http_api")

PAYLOAD_BYTES_MAX = 10 * 1024 * 1024
INVOKE_BYTES_MAX = 6 * 1024 * 1024
JSON_HEADERS = {"Content-Type": "application/json"}

Response = tuple[int, dict[str, Any], bytes]

_api_handlers = provisioners._RESOURCE_HANDLERS["AWS::ApiGatewayV2::Api"]
_original_create = _api_handlers["create"]
_original_update = _api_handlers["update"]
_original_to_proxy_response = lambda_svc.lambda_execute_result_to_api_proxy_response
_original_invoke_proxy = apigateway._invoke_lambda_proxy
_original_app = app.app


def apply() -> None:
    _api_handlers["create"] = create_api
    _api_handlers["update"] = update_api
    lambda_svc.lambda_execute_result_to_api_proxy_response = to_proxy_response
    apigateway._invoke_lambda_proxy = invoke_proxy
    app.app = serve


async def serve(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """A request of an API has its repeated headers joined by commas alone; ministack puts a space behind each comma.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    """
    if scope["type"] == "http" and "/_aws/execute-api/" in scope["path"]:
        scope = {**scope, "headers": joined(scope["headers"])}
    await _original_app(scope, receive, send)


def joined(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers with those of one name made one, in the order of their first appearance."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value)
    return [(name, (b"; " if name == b"cookie" else b",").join(all_of_it)) for name, all_of_it in values.items()]


def create_api(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
    """AWS::ApiGatewayV2::Api with `Body`, which is what SAM makes of AWS::Serverless::HttpApi.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-apigatewayv2-api.html
    """
    api_id, attributes = _original_create(logical_id, properties, stack)
    if isinstance(properties.get("Body"), dict):
        import_openapi(api_id, properties["Body"])
    return api_id, attributes


def update_api(
    physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str, logical_id: str | None = None
) -> tuple[str, dict[str, Any]]:
    """A changed `Body` takes the place of the API's routes and integrations, as ReimportApi does."""
    api_id, attributes = _original_update(physical_id, old, new, stack, logical_id)
    if isinstance(new.get("Body"), dict) and (api_id != physical_id or new["Body"] != old.get("Body")):
        import_openapi(api_id, new["Body"])
    return api_id, attributes


def import_openapi(api_id: str, document: dict[str, Any]) -> None:
    """Makes one route and one integration of each operation that has an `x-amazon-apigateway-integration`.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-open-api.html
    """
    routes: dict[str, Any] = {}
    integrations: dict[str, Any] = {}
    for path, operations in (document.get("paths") or {}).items():
        for method, operation in operations.items():
            declared = operation.get("x-amazon-apigateway-integration") if isinstance(operation, dict) else None
            if not declared:
                continue
            integration_id, route_id = new_uuid()[:8], new_uuid()[:8]
            integrations[integration_id] = {
                "integrationId": integration_id,
                **provisioners._apigw_v2_integration_props(integration_properties(declared)),
            }
            route = {"RouteKey": route_key(path, method), "Target": f"integrations/{integration_id}"}
            routes[route_id] = {"routeId": route_id, **provisioners._apigw_v2_route_props(route)}
    # Whole dictionaries replace the old ones, so that a request in between finds either the old routes or the new.
    apigateway._integrations[api_id] = integrations
    apigateway._routes[api_id] = routes


def integration_properties(declared: dict[str, Any]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-swagger-extensions-integration.html"""
    return {
        "IntegrationType": declared.get("type", "aws_proxy").upper(),
        "IntegrationUri": declared.get("uri", ""),
        "IntegrationMethod": declared.get("httpMethod", "POST"),
        "PayloadFormatVersion": declared.get("payloadFormatVersion", "2.0"),
        "TimeoutInMillis": declared.get("timeoutInMillis", 30000),
    }


def route_key(path: str, method: str) -> str:
    """`x-amazon-apigateway-any-method` is ANY; the path `/$default` is the route that catches the rest."""
    if path == "/$default":
        return "$default"
    if method.lower() == "x-amazon-apigateway-any-method":
        return f"ANY {path}"
    return f"{method.upper()} {path}"


def to_proxy_response(result: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """API Gateway tells a caller nothing about a failed function.

    "If the Lambda API rejects the invocation request, API Gateway returns a 500 error code. If the function runs but
    returns an error, or returns a response in the wrong format, API Gateway returns a 502. In both cases, the body of
    the response from API Gateway is {"message":"Internal server error"}."
    https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway-errors.html
    """
    if result.get("throttle"):
        return internal_error(500), None
    if result.get("error"):
        return internal_error(502), None
    return _original_to_proxy_response(result)


def internal_error(status: int) -> dict[str, Any]:
    return {"statusCode": status, "headers": JSON_HEADERS, "body": json.dumps({"message": "Internal server error"})}


async def invoke_proxy(
    integration: Any,
    api_id: str,
    stage: str,
    path: str,
    method: str,
    headers: Any,
    body: bytes,
    *rest: Any,
    **named: Any,
) -> Response:
    """Refuses what is larger than API Gateway (10 MB) or Lambda (6 MB, body in its transfer form) takes.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html and
    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html ; the status of a body between the two is
    not documented. It is 413 here, as for one above both.
    """
    if method == http_api_stage.ROUTED_OPTIONS:
        method = "OPTIONS"
    if len(body or b"") > PAYLOAD_BYTES_MAX or transfer_size(headers, body or b"") > INVOKE_BYTES_MAX:
        return 413, dict(JSON_HEADERS), json.dumps({"message": "Request Entity Too Large"}).encode()
    return await _original_invoke_proxy(integration, api_id, stage, path, method, headers, body, *rest, **named)


def transfer_size(headers: dict[str, str], body: bytes) -> int:
    """The bytes that the body takes inside the event: as text, escaped for JSON, or in base64."""
    if apigateway._v2_request_body_is_text(headers.get("content-type")):
        if len(body) * 6 <= INVOKE_BYTES_MAX:
            return len(body)  # even if every byte were escaped as \\u00XX it would fit; spares the common case the work
        return len(json.dumps(body.decode("utf-8", errors="replace"), ensure_ascii=False).encode())
    return (len(body) + 2) // 3 * 4
