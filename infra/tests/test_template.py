"""What the comments of infra/template.yaml claim, and what the functions rely on.

The template is read as it is written, before SAM's transform: these are the promises of the file that people edit.
cfn-lint and `sam validate --lint` check that AWS would take it; what is here, AWS would take either way.
"""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

DAY_SECONDS = 24 * 60 * 60
API_TIMEOUT_SECONDS = 30
INTERACTIVE_SECONDS = 2.5
BODY_SECONDS = 4
FETCH_SECONDS = 2
CONTENT_CLAIM_SECONDS = 40
CLOCKS_APART_SECONDS = 10
DELIVERY_SECONDS_MAX = 30
CALLS_SECONDS = 28
SQS_RETENTION_SECONDS_MAX = 14 * DAY_SECONDS
SQS_RECEIVE_COUNT_MAX = 1000
DEDUPE_DAYS_MAX = 90

# The environment of each function: the code refuses to start without any of these, and reads no other.
ENVIRONMENT = {
    "ReceiverFunction": {
        "LEDGER_TABLE",
        "CONTENT_TABLE",
        "BODIES_BUCKET",
        "DOORBELL_QUEUE_URL",
        "SECRETS_PREFIX",
        "FRONT_DOOR_SECRET",
        "GATEWAY_CONFIG",
        "METRICS_NAMESPACE",
    },
    "WorkerFunction": {
        "LEDGER_TABLE",
        "BODIES_BUCKET",
        "DOORBELL_QUEUE_URL",
        "DEAD_LETTER_QUEUE_URL",
        "SECRETS_PREFIX",
        "GATEWAY_CONFIG",
        "METRICS_NAMESPACE",
        "CUSTOMERS_TABLE",
    },
    "RedriveFunction": {"LEDGER_TABLE", "DOORBELL_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"},
    "RotationFunction": {"ROTATION_OVERLAP_DAYS"},
    "AuditorFunction": {"LEDGER_TABLE", "GATEWAY_CONFIG", "METRICS_NAMESPACE"},
    "DispatcherFunction": {"LEDGER_TABLE", "DOORBELL_QUEUE_URL", "WORKER_CONCURRENCY_MAX", "GATEWAY_CONFIG", "METRICS_NAMESPACE"},
}

# A star in a resource needs a reason. Role and Sid of the statement, and why.
STARRED_RESOURCES = {
    ("ReceiverRole", "StoreLargeBodies"): "objects of one bucket; a body's key is its SHA-256",
    ("WorkerRole", "LoadLargeBodies"): "objects of one bucket; a body's key is its SHA-256",
    ("ReceiverRole", "ReadSigningSecrets"): "the prefix of sources; gateway.toml names the secrets, the template does not know them",
    ("ReceiverRole", "EnrolWhatHandshakesBring"): "secrets of sources whose names end in `-enrolled`; gateway.toml names them",
    ("WorkerRole", "ReadDestinationSecrets"): "the prefix of destinations; gateway.toml names the secrets, the template does not know them",
    ("WorkerRole", "KeepRefreshTokens"): "secrets of destinations whose names end in `-oauth`; gateway.toml names them",
    ("RotationRole", "ReadKeyrings"): "both prefixes; an operator may rotate any secret of the stack",
    ("RotationRole", "StageANewKeyring"): "both prefixes; an operator may rotate any secret of the stack",
}

SECRETS = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:${AWS::StackName}/"
OF_SOURCES, OF_DESTINATIONS = f"{SECRETS}source/*", f"{SECRETS}destination/*"

# Statements that take something away. All others allow.
DENIED = {("ReceiverRole", "KeepToEvents"), ("ReceiverRole", "NameTheKey"), ("RotationRole", "LeaveTheFrontDoor")}

# Of the names that no source may have (RESERVED_SOURCE_NAMES), those whose keys the receiver writes and reads all the same.
KEYS_OF_THE_RECEIVER = {"key"}

# Alarms whose runbook has another name.
RUNBOOKS = {"RequestsAlarm": "flood.md"}
# Runbooks of what an operator does unasked.
WITHOUT_ALARM = {"front-door.md"}
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"]
NUMBERS += ["fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]


class TemplateLoader(yaml.SafeLoader):
    """Reads CloudFormation's short forms: `!Ref X` becomes {"Ref": "X"}, `!GetAtt A.B` {"Fn::GetAtt": "A.B"}."""


def _intrinsic(loader, suffix, node):
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}


TemplateLoader.add_multi_constructor("!", _intrinsic)

TEXT = (ROOT / "infra/template.yaml").read_text()
TEMPLATE = yaml.load(TEXT, TemplateLoader)  # noqa: S506, a SafeLoader
RESOURCES = TEMPLATE["Resources"]


def resources_of(resource_type):
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == resource_type}


def properties(name):
    return RESOURCES[name]["Properties"]


def as_list(value):
    return value if isinstance(value, list) else [value]


def unconditional(statement):
    """The statement itself, where it is there on a condition only."""
    if "Fn::If" not in statement:
        return statement
    _, then, otherwise = statement["Fn::If"]
    assert otherwise == {"Ref": "AWS::NoValue"}
    return then


FUNCTIONS = resources_of("AWS::Serverless::Function")
ALARMS = resources_of("AWS::CloudWatch::Alarm")
ROLES = resources_of("AWS::IAM::Role")
STATEMENTS = [
    pytest.param(role, statement, id=f"{role}-{statement['Sid']}")
    for role, resource in ROLES.items()
    for policy in resource["Properties"]["Policies"]
    for statement in map(unconditional, policy["PolicyDocument"]["Statement"])
]


# ---- The file itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["Parameters", "Outputs"])
def test_every_parameter_and_output_is_described(section):
    undescribed = [name for name, entry in TEMPLATE[section].items() if not entry.get("Description", "").endswith(".")]
    assert undescribed == []


def test_every_parameter_has_a_default_and_a_bound():
    for name, parameter in TEMPLATE["Parameters"].items():
        assert "Default" in parameter, f"{name}: `sam deploy` must work without answers"
        bounds = {"AllowedValues", "AllowedPattern", "MinValue", "MaxValue"} & parameter.keys()
        assert bounds, f"{name} takes anything"


def test_cloudformation_takes_no_yaml_aliases():
    assert not [token for token in yaml.scan(TEXT) if isinstance(token, (yaml.AnchorToken, yaml.AliasToken))]


def test_no_resource_has_a_name_of_our_choosing_but_secrets_and_the_layer():
    named = {"BucketName", "FunctionName", "LogGroupName", "QueueName", "RoleName", "TableName", "AlarmName"}
    for name, resource in RESOURCES.items():
        if resource["Type"] != "AWS::Lambda::Permission":
            assert not named & resource["Properties"].keys(), name


# ---- Functions -----------------------------------------------------------------------------------------------------


def test_the_six_functions_are_there():
    assert FUNCTIONS.keys() == ENVIRONMENT.keys()


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_function_gets_exactly_the_environment_it_reads(name):
    assert properties(name)["Environment"]["Variables"].keys() == ENVIRONMENT[name]


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_function_is_built_from_the_crate_of_its_name(name):
    assert RESOURCES[name]["Metadata"] == {
        "BuildMethod": "rust-cargolambda",
        "BuildProperties": {"Binary": name.removesuffix("Function").lower()},
    }
    assert properties(name)["CodeUri"] == "../"
    crate = ROOT / "functions" / name.removesuffix("Function").lower() / "Cargo.toml"
    assert tomllib.loads(crate.read_text())["package"]["name"] == name.removesuffix("Function").lower()


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_function_that_reads_the_configuration_has_its_layer_and_no_other_has(name):
    layers = properties(name).get("Layers", [])
    assert layers == ([{"Ref": "GatewayConfigLayer"}] if "GATEWAY_CONFIG" in ENVIRONMENT[name] else [])


def test_the_layer_ships_the_sample_configuration():
    layer = properties("GatewayConfigLayer")["ContentUri"]
    assert [path.name for path in (ROOT / "infra" / layer).iterdir()] == ["gateway.toml"]


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_function_logs_json_to_its_own_group_which_forgets(name):
    group = properties(name)["LoggingConfig"]["LogGroup"]["Ref"]
    assert group == name.removesuffix("Function") + "Logs"
    assert TEMPLATE["Globals"]["Function"]["LoggingConfig"]["LogFormat"] == "JSON"


def test_every_log_group_forgets():
    for name, group in resources_of("AWS::Logs::LogGroup").items():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}, name


def test_metrics_are_never_filtered_out_of_the_log():
    # Metrics are log lines at INFO, and every alarm in the namespace Posthouse stands on them.
    assert set(TEMPLATE["Parameters"]["LogLevel"]["AllowedValues"]) == {"DEBUG", "INFO"}


# ---- Front door ----------------------------------------------------------------------------------------------------


def test_the_receiver_gives_up_before_the_api_does():
    # Secret, key, the same again, body; claim the content, find its event, take over, record, compare, ring. Bounded by
    # shared/src/aws.rs (INTERACTIVE), shared/src/fetched/transport.rs and shared/src/bodies.rs.
    calls_seconds = (2 + 6) * INTERACTIVE_SECONDS + 2 * FETCH_SECONDS + BODY_SECONDS
    assert calls_seconds < properties("ReceiverFunction")["Timeout"] < API_TIMEOUT_SECONDS


def test_signed_content_is_claimed_for_longer_than_a_receiver_runs():
    # Else another receiver could take it over while the first is still about to record it: shared/src/ledger/event.rs.
    assert properties("ReceiverFunction")["Timeout"] + CLOCKS_APART_SECONDS < CONTENT_CLAIM_SECONDS


def test_the_one_route_takes_any_method():
    routes = resources_of("AWS::ApiGatewayV2::Route")
    assert [route["Properties"]["RouteKey"] for route in routes.values()] == ["ANY /v1/webhooks/{source}"]
    assert properties("ReceiverIntegration")["PayloadFormatVersion"] == "2.0"


def test_the_access_log_is_json_that_no_sender_can_write_into():
    line = json.loads(properties("WebhookStage")["AccessLogSettings"]["Format"])
    # API Gateway puts the values in as they are. These are numbers, ids, times and addresses that AWS itself writes, and the
    # route as it stands in the template.
    written_by_aws = {
        "requestId",
        "requestTime",
        "identity.sourceIp",
        "routeKey",
        "status",
        "responseLength",
        "responseLatency",
        "integrationLatency",
        "integration.integrationStatus",
        "integration.requestId",
    }
    assert {value.removeprefix("$context.") for value in line.values()} <= written_by_aws
    # What the runbooks filter by.
    assert {"status", "sourceIp", "integrationRequestId"} <= line.keys()


def test_a_distribution_is_there_only_for_those_who_ask_for_it():
    assert TEMPLATE["Parameters"]["FrontDoor"]["Default"] == "direct"
    assert TEMPLATE["Parameters"]["FrontDoor"]["AllowedValues"] == ["direct", "both", "cloudfront"]
    assert TEMPLATE["Conditions"]["HasDistribution"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "FrontDoor"}, "direct"]}]}
    conditional = {name for name, resource in RESOURCES.items() if resource.get("Condition") == "HasDistribution"}
    assert conditional == {"Distribution", "FrontDoorSecret"} == resources_of("AWS::CloudFront::Distribution").keys() | {"FrontDoorSecret"}
    of_distribution, of_api = "https://${Distribution.DomainName}/v1/webhooks", "${WebhookApi.ApiEndpoint}/v1/webhooks"
    urls = TEMPLATE["Outputs"]["WebhookUrl"]["Value"]["Fn::If"]
    assert urls == ["HasDistribution", {"Fn::Sub": of_distribution}, {"Fn::Sub": of_api}]
    assert TEMPLATE["Outputs"]["DirectWebhookUrl"]["Value"] == {"Fn::Sub": of_api}
    assert TEMPLATE["Outputs"]["DistributionId"]["Condition"] == "HasDistribution"


def test_only_when_the_api_is_closed_the_receiver_asks_for_the_header():
    # While providers change over (`both`), it takes either.
    assert TEMPLATE["Conditions"]["RefusesDirectRequests"] == {"Fn::Equals": [{"Ref": "FrontDoor"}, "cloudfront"]}
    variable = properties("ReceiverFunction")["Environment"]["Variables"]["FRONT_DOOR_SECRET"]
    assert variable == {"Fn::If": ["RefusesDirectRequests", "front-door", ""]}
    assert properties("FrontDoorSecret")["Name"]["Fn::Sub"] == "${AWS::StackName}/source/front-door"


def test_cloudfront_hands_on_everything_over_tls_and_keeps_nothing():
    distribution = properties("Distribution")["DistributionConfig"]
    (origin,) = distribution["Origins"]
    assert origin["DomainName"] == {"Fn::Sub": "${WebhookApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}"}
    assert origin["CustomOriginConfig"]["OriginProtocolPolicy"] == "https-only"
    assert origin["CustomOriginConfig"]["OriginSSLProtocols"] == ["TLSv1.2"]
    assert origin["CustomOriginConfig"]["OriginReadTimeout"] > API_TIMEOUT_SECONDS
    behavior = distribution["DefaultCacheBehavior"]
    assert set(behavior["AllowedMethods"]) == {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"}
    assert behavior["ViewerProtocolPolicy"] == "https-only"
    # The ids of AWS's managed policies CachingDisabled and AllViewerExceptHostHeader.
    assert behavior["CachePolicyId"] == "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
    assert behavior["OriginRequestPolicyId"] == "b689b0a8-53d0-40ab-baf2-68738e2966ac"
    errors = {entry["ErrorCode"]: entry for entry in distribution["CustomErrorResponses"]}
    assert {400, 403, 404, 405, 500, 502, 503, 504} == errors.keys()
    assert all(entry == {"ErrorCode": code, "ErrorCachingMinTTL": 0} for code, entry in errors.items())
    assert distribution["WebACLId"] == {"Fn::If": ["HasWebAcl", {"Ref": "WebAclArn"}, {"Ref": "AWS::NoValue"}]}


def test_the_distribution_sends_the_key_of_the_version_that_the_stack_names():
    (header,) = properties("Distribution")["DistributionConfig"]["Origins"][0]["OriginCustomHeaders"]
    assert header["HeaderName"] == "posthouse-front-door"
    reference = "{{resolve:secretsmanager:${FrontDoorSecret}:SecretString:current::${FrontDoorSecretVersion}}}"
    assert header["HeaderValue"] == {"Fn::Sub": reference}
    # As a keyring by itself, with letters and digits only: the value goes into a header.
    assert properties("FrontDoorSecret")["GenerateSecretString"] == {
        "SecretStringTemplate": "{}",
        "GenerateStringKey": "current",
        "PasswordLength": 48,
        "ExcludePunctuation": True,
    }
    receiver = ROOT / "functions/receiver/src/front_door.rs"
    assert f'"{header["HeaderName"]}"' in receiver.read_text()


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("WebAclArn", "arn:aws:wafv2:us-east-1:123456789012:global/webacl/a-b_1/0a1b2c3d-1234-1234-1234-0a1b2c3d4e5f", "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/a/0a1b"),
        ("FrontDoorSecretVersion", "0a1b2c3d-1234-1234-1234-0a1b2c3d4e5f", "x}}{{resolve:ssm:a}}"),
    ],
)
def test_a_parameter_of_the_front_door_is_named_whole(name, good, bad):
    pattern = TEMPLATE["Parameters"][name]["AllowedPattern"]
    assert re.search(pattern, "")
    assert re.search(pattern, good)
    assert not re.search(pattern, bad)


def test_the_front_door_is_throttled():
    assert properties("WebhookStage")["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "ThrottleRequestsPerSecond"},
        "ThrottlingBurstLimit": {"Ref": "ThrottleBurstRequests"},
    }


# ---- Ledger and bodies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", resources_of("AWS::DynamoDB::Table"))
def test_a_table_survives_the_stack_and_its_mistakes(name):
    table = RESOURCES[name]
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    # What was signed is no event: it can be lost.
    has_backup = table["Properties"].get("PointInTimeRecoverySpecification") == {"PointInTimeRecoveryEnabled": True}
    assert has_backup == (name != "ContentTable")
    assert table["Properties"]["SSESpecification"]["SSEEnabled"] is True
    assert table["Properties"]["BillingMode"] == "PAY_PER_REQUEST"


def test_the_ledger_forgets_by_expires_at():
    for name in ["LedgerTable", "ContentTable"]:
        assert properties(name)["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


def test_the_ledgers_indexes():
    indexes = {
        index["IndexName"]: ([key["AttributeName"] for key in index["KeySchema"]], index["Projection"])
        for index in properties("LedgerTable")["GlobalSecondaryIndexes"]
    }
    assert indexes == {
        "by_time": (
            ["by_time_pk", "by_time_sk"],
            {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["type", "destinations", "expires_at"]},
        ),
        "attention": (
            ["attention_pk", "attention_sk"],
            # A claim changes none of its attributes, so that it costs nothing there.
            {"ProjectionType": "KEYS_ONLY"},
        ),
    }


def test_a_body_outlives_every_event_that_points_to_it():
    (rule,) = properties("BodiesBucket")["LifecycleConfiguration"]["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["ExpirationInDays"] > DEDUPE_DAYS_MAX


def test_the_bucket_is_private_encrypted_and_kept():
    bucket = RESOURCES["BodiesBucket"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())
    assert bucket["Properties"]["BucketEncryption"]
    # Erasing a body must erase it.
    assert "VersioningConfiguration" not in bucket["Properties"]


def test_the_bucket_refuses_plain_http():
    (statement,) = properties("BodiesBucketPolicy")["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert len(statement["Resource"]) == 2, "the bucket and its objects"


# ---- Doorbell, worker, dead letters --------------------------------------------------------------------------------


def test_a_waiting_batch_is_not_handed_out_twice():
    visibility_seconds = properties("DoorbellQueue")["VisibilityTimeout"]
    assert visibility_seconds >= 6 * properties("WorkerFunction")["Timeout"]
    # The longest delivery that gateway.toml allows, and the calls around it, fit into one invocation.
    assert properties("WorkerFunction")["Timeout"] > DELIVERY_SECONDS_MAX + CALLS_SECONDS


@pytest.mark.parametrize("name", resources_of("AWS::SQS::Queue"))
def test_a_queue_keeps_as_long_as_sqs_can_and_encrypts(name):
    assert properties(name)["MessageRetentionPeriod"] == SQS_RETENTION_SECONDS_MAX
    assert properties(name)["SqsManagedSseEnabled"] is True


def test_retries_do_not_use_up_the_last_line_of_defence():
    policy = properties("DoorbellQueue")["RedrivePolicy"]
    assert policy == {
        "deadLetterTargetArn": {"Fn::GetAtt": "DeadLetterQueue.Arn"},
        "maxReceiveCount": SQS_RECEIVE_COUNT_MAX,
    }


@pytest.mark.parametrize("name", resources_of("AWS::SQS::Queue"))
def test_both_queues_are_fifo_or_neither(name):
    assert TEMPLATE["Conditions"]["IsFifo"] == {"Fn::Equals": [{"Ref": "DoorbellQueueType"}, "fifo"]}
    assert TEMPLATE["Parameters"]["DoorbellQueueType"]["Default"] == "standard"

    def in_fifo(value):
        return {"Fn::If": ["IsFifo", value, {"Ref": "AWS::NoValue"}]}

    queue = properties(name)
    assert queue["FifoQueue"] == in_fifo(True)
    assert queue["DeduplicationScope"] == in_fifo("messageGroup")
    assert queue["FifoThroughputLimit"] == in_fifo("perMessageGroupId")
    # The same doorbell rung again must not be dropped.
    assert "ContentBasedDeduplication" not in queue


def test_only_on_a_fifo_queue_the_worker_rings():
    (policy,) = properties("WorkerRole")["Policies"]
    rings = [
        entry
        for entry in policy["PolicyDocument"]["Statement"]
        if unconditional(entry)["Action"] == "sqs:SendMessage" and unconditional(entry)["Resource"] == {"Fn::GetAtt": "DoorbellQueue.Arn"}
    ]
    assert [entry["Fn::If"][0] for entry in rings] == ["IsFifo"]


def test_the_worker_reports_failures_one_by_one():
    doorbell = properties("WorkerFunction")["Events"]["Doorbell"]
    assert doorbell["Type"] == "SQS"
    mapping = doorbell["Properties"]
    assert mapping["Queue"] == {"Fn::GetAtt": "DoorbellQueue.Arn"}
    assert mapping["BatchSize"] == 10
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "WorkerConcurrencyMax"}}
    assert "ReservedConcurrentExecutions" not in properties("WorkerFunction")


# ---- Dispatcher and auditor ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AuditorFunction", "DispatcherFunction"])
def test_who_runs_every_minute_ends_before_the_next(name):
    (event,) = properties(name)["Events"].values()
    assert (event["Type"], event["Properties"]["Schedule"]) == ("Schedule", "rate(1 minute)")
    assert properties(name)["Timeout"] < 60
    assert properties(name)["EventInvokeConfig"]["MaximumRetryAttempts"] == 0


def test_nobody_sends_to_the_queue_of_doorbells_who_is_started_by_it():
    # Lambda stops a function that calls itself over a queue after sixteen times. The one exception is a FIFO queue, once.
    senders = {
        (role, statement["Sid"])
        for role, statement in (param.values for param in STATEMENTS)
        if "sqs:SendMessage" in as_list(statement["Action"]) and statement["Resource"] == {"Fn::GetAtt": "DoorbellQueue.Arn"}
    }
    assert {role for role, _ in senders} == {"ReceiverRole", "RedriveRole", "DispatcherRole", "WorkerRole"}
    assert {sid for role, sid in senders if role == "WorkerRole"} == {"RingInTheRightGroup"}


def test_the_dispatcher_knows_how_many_workers_there_are():
    assert properties("DispatcherFunction")["Environment"]["Variables"]["WORKER_CONCURRENCY_MAX"] == {"Ref": "WorkerConcurrencyMax"}
    batch = properties("WorkerFunction")["Events"]["Doorbell"]["Properties"]["BatchSize"]
    dispatcher = (ROOT / "functions/dispatcher/src/lib.rs").read_text()
    assert f"pub const DELIVERIES_PER_WORKER: u32 = {batch};" in dispatcher


def test_redrive_is_invoked_by_hand_only():
    assert "Events" not in properties("RedriveFunction")


# ---- Secrets and rotation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", resources_of("AWS::SecretsManager::Secret").keys() - {"FrontDoorSecret"})
def test_a_secret_starts_as_what_nobody_knows(name):
    secret = properties(name)
    assert "SecretString" not in secret
    # Letters and digits only: text that starts with a brace would be read as a keyring.
    assert secret["GenerateSecretString"] == {"PasswordLength": 32, "ExcludePunctuation": True}
    assert re.match(r"\$\{AWS::StackName\}/(source|destination)/[a-z-]+$", secret["Name"]["Fn::Sub"])


def test_the_sample_configuration_names_only_secrets_of_the_stack():
    configuration = tomllib.loads((ROOT / "infra/gateway/gateway.toml").read_text())
    used = {
        f"{prefix}/{entry['secret']}"
        for prefix, section in [("source", "sources"), ("destination", "destinations")]
        for entry in configuration[section].values()
        if "secret" in entry
    }
    created = {
        secret["Properties"]["Name"]["Fn::Sub"].removeprefix("${AWS::StackName}/")
        for secret in resources_of("AWS::SecretsManager::Secret").values()
        if "Condition" not in secret
    }
    assert used == created


def test_nothing_rotates_by_itself():
    # Every secret has another end, which somebody must change as well.
    assert resources_of("AWS::SecretsManager::RotationSchedule") == {}


def test_secrets_manager_may_invoke_rotation_from_this_account_only():
    permission = properties("SecretsManagerMayInvokeRotation")
    assert permission["Principal"] == "secretsmanager.amazonaws.com"
    assert permission["SourceAccount"] == {"Ref": "AWS::AccountId"}


# ---- Least privilege -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_function_has_a_role_of_its_own_and_nothing_is_added_to_it(name):
    role = name.removesuffix("Function") + "Role"
    assert properties(name)["Role"] == {"Fn::GetAtt": f"{role}.Arn"}
    # SAM would ignore these beside a Role, and a reader would believe them.
    assert not {"Policies", "Connectors"} & properties(name).keys()
    assert "ManagedPolicyArns" not in properties(role)


@pytest.mark.parametrize(("role", "statement"), STATEMENTS)
def test_a_statement_names_its_verbs(role, statement):
    assert statement["Effect"] == ("Deny" if (role, statement["Sid"]) in DENIED else "Allow")
    assert {"NotAction", "NotResource"}.isdisjoint(statement)
    starred = [action for action in as_list(statement["Action"]) if "*" in action]
    assert starred == []


@pytest.mark.parametrize(("role", "statement"), STATEMENTS)
def test_a_statement_names_its_resources(role, statement):
    for resource in as_list(statement["Resource"]):
        assert isinstance(resource, dict), f"{resource} is not taken from the stack"
        text = resource.get("Fn::Sub", "")
        if "*" in text:
            assert (role, statement["Sid"]) in STARRED_RESOURCES
            secrets = r".+[:}]secret:\$\{AWS::StackName\}/(source/\*(-enrolled-\?{6})?|destination/\*(-oauth-\?{6})?)"
            assert re.fullmatch(secrets + r"|\$\{BodiesBucket\.Arn\}/\*", text), text


def test_only_rotation_writes_secrets_and_receiver_and_worker_those_that_are_theirs():
    # Secrets Manager puts a hyphen and six characters behind a name: `*` alone would let in names that go on after the suffix.
    def suffix(name, file):
        return re.search(rf'{name}_SUFFIX: &str = "(.+)";', (ROOT / "shared/src/config" / file).read_text())[1]

    enrolled, oauth = suffix("ENROLLED", "mod.rs"), suffix("OAUTH", "http/auth.rs")
    assert who_may("secretsmanager:PutSecretValue") == {
        "RotationRole": [OF_SOURCES, OF_DESTINATIONS],
        "ReceiverRole": [f"{OF_SOURCES}{enrolled}-??????"],
        "WorkerRole": [f"{OF_DESTINATIONS}{oauth}-??????"],
    }


def test_only_rotation_reads_secrets_of_sources_and_of_destinations():
    assert who_may("secretsmanager:GetSecretValue") == {
        "RotationRole": [OF_SOURCES, OF_DESTINATIONS],
        "ReceiverRole": [OF_SOURCES],
        "WorkerRole": [OF_DESTINATIONS],
    }
    assert prefix_of("ReceiverFunction") == "${AWS::StackName}/source/"
    assert prefix_of("WorkerFunction") == "${AWS::StackName}/destination/"
    others = [param.values for param in STATEMENTS if param.values[0] not in {"RotationRole", "ReceiverRole", "WorkerRole"}]
    assert not [role for role, statement in others if "secretsmanager" in str(statement)]


def test_rotation_leaves_the_secret_of_the_front_door():
    statement = statement_of("RotationRole", "LeaveTheFrontDoor")
    assert statement["Effect"] == "Deny"
    assert statement["Resource"] == {"Fn::Sub": f"{SECRETS}source/front-door-??????"}
    assert set(as_list(statement["Action"])) >= {"secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"}


def prefix_of(function):
    return properties(function)["Environment"]["Variables"]["SECRETS_PREFIX"]["Fn::Sub"]


def who_may(action):
    """The resources on which each role may do this."""
    allowed = {}
    for role, statement in (param.values for param in STATEMENTS):
        if action in as_list(statement["Action"]) and statement["Effect"] == "Allow":
            allowed.setdefault(role, []).extend(resource["Fn::Sub"] for resource in as_list(statement["Resource"]))
    return allowed


def statement_of(role, sid):
    (found,) = [param.values[1] for param in STATEMENTS if (param.values[0], param.values[1]["Sid"]) == (role, sid)]
    return found


def reserved_names():
    text = (ROOT / "shared/src/config/mod.rs").read_text()
    return set(re.findall('"([a-z]+)"', re.search(r"RESERVED_SOURCE_NAMES: \[&str; \d+\] =\s*\[([^]]+)\]", text)[1]))


def test_the_receiver_is_kept_to_events_of_the_ledger():
    statement = statement_of("ReceiverRole", "KeepToEvents")
    patterns = statement["Condition"]["ForAnyValue:StringLike"]["dynamodb:LeadingKeys"]
    refused = reserved_names() - KEYS_OF_THE_RECEIVER
    assert sorted(patterns) == sorted([*refused, *(f"{name}#*" for name in refused)])

    def is_refused(key):
        # A star is the only sign that IAM gives a meaning here.
        return any(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), key) for pattern in patterns)

    assert all(map(is_refused, ["audit", "destination#app", "order#app#0a1b", "wait#1#2"]))
    # Names are letters, digits and hyphens: no event of a legal source has a key that is refused.
    for source in ["waiting", "wait-1", "auditor", "a-destination", "orders", "latest", "github", "key2"]:
        assert not is_refused(f"{source}#evt_1#wait#1"), source
    # Without a key the patterns would be compared with nothing, and let it through.
    without_key = statement_of("ReceiverRole", "NameTheKey")
    assert without_key["Condition"] == {"Null": {"dynamodb:LeadingKeys": "true"}}
    of_ledger = {
        action
        for role, allowed in (param.values for param in STATEMENTS)
        for action in as_list(allowed["Action"])
        if role == "ReceiverRole" and allowed["Effect"] == "Allow" and allowed["Resource"] == {"Fn::GetAtt": "LedgerTable.Arn"}
    }
    for denied in (statement, without_key):
        assert set(denied["Action"]) == of_ledger
        assert denied["Resource"] == {"Fn::GetAtt": "LedgerTable.Arn"}


def conditions(operator_prefix):
    return [
        (statement, operator, key)
        for _, statement in (param.values for param in STATEMENTS)
        for operator, keys in statement.get("Condition", {}).items()
        for key in keys
        if operator.startswith(operator_prefix)
    ]


def test_a_condition_on_all_values_is_not_met_by_none():
    on_all = conditions("ForAllValues:")
    for statement, _, key in on_all:
        assert statement["Effect"] == "Allow", "a Deny on all values would not hold for none"
        assert statement["Condition"]["Null"][key] == "false"


def test_a_missing_body_is_told_from_a_refusal():
    # S3 says 404 only to who may list the bucket, and nothing else may.
    assert statement_of("WorkerRole", "TellAMissingBodyFromARefusal")["Resource"] == {"Fn::GetAtt": "BodiesBucket.Arn"}
    listing = [param.values[0] for param in STATEMENTS if "s3:ListBucket" in as_list(param.values[1]["Action"])]
    assert listing == ["WorkerRole"]


TARGETS = {
    "LambdaTargets": ("InvokeTargets", "lambda:InvokeFunction", "lambda", ["function:a-b_1", "function:a:live", "function:a:$LATEST"], ["function:a*", "layer:a"]),
    "EventBridgeTargets": ("PutEventsOnTargets", "events:PutEvents", "events", ["event-bus/default", "event-bus/a.b/c"], ["event-bus/*", "rule/a"]),
    "SqsTargets": ("SendToTargets", "sqs:SendMessage", "sqs", ["a-b_1", "a.fifo"], ["*", "a*", "a.b"]),
    "SnsTargets": ("PublishToTargets", "sns:Publish", "sns", ["a-b_1", "a.fifo"], ["*", "a*", "a.b"]),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_worker_may_call_the_targets_that_are_named_and_no_others(name):
    sid, action, _, _, _ = TARGETS[name]
    has = f"Has{name}"
    (policy,) = properties("WorkerRole")["Policies"]
    conditional = [entry["Fn::If"] for entry in policy["PolicyDocument"]["Statement"] if "Fn::If" in entry]
    statement = {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": {"Ref": name}}
    assert [has, statement, {"Ref": "AWS::NoValue"}] in conditional
    assert {condition for condition, _, _ in conditional} == {"IsFifo", *(f"Has{target}" for target in TARGETS)}
    # An empty list is one empty text, and a statement with that for a resource would be refused.
    assert TEMPLATE["Conditions"][has] == {"Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": name}]}, ""]}]}
    assert TEMPLATE["Parameters"][name]["Default"] == ""


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_named_whole(name):
    _, _, service, good, bad = TARGETS[name]
    pattern = TEMPLATE["Parameters"][name]["AllowedPattern"]
    assert re.search(pattern, "")
    for resource in good:
        assert re.search(pattern, f"arn:aws:{service}:eu-central-1:123456789012:{resource}"), resource
    for text in [*(f"arn:aws:{service}:eu-central-1:123456789012:{resource}" for resource in bad), "*", f"arn:aws:{service}:*:*:*"]:
        assert not re.search(pattern, text), text


def test_the_receiver_neither_updates_nor_deletes():
    actions = {
        action
        for role, statement in (param.values for param in STATEMENTS)
        for action in as_list(statement["Action"])
        if role == "ReceiverRole" and action.startswith("dynamodb:")
    }
    assert actions == {"dynamodb:PutItem", "dynamodb:GetItem", "dynamodb:Query"}


def test_every_exception_is_still_needed():
    starred = {
        (param.values[0], param.values[1]["Sid"])
        for param in STATEMENTS
        if any("*" in resource.get("Fn::Sub", "") for resource in as_list(param.values[1]["Resource"]))
    }
    assert starred == STARRED_RESOURCES.keys()


@pytest.mark.parametrize(("role", "log_group"), [(role, role.removesuffix("Role") + "Logs") for role in ROLES])
def test_a_role_may_write_to_its_own_log_group_only(role, log_group):
    logs = [
        param.values[1]["Resource"]
        for param in STATEMENTS
        if param.values[0] == role and any(action.startswith("logs:") for action in as_list(param.values[1]["Action"]))
    ]
    assert logs == [{"Fn::GetAtt": f"{log_group}.Arn"}]


# ---- Alarms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_what_happened_and_links_to_its_runbook(name):
    description = ALARMS[name]["Properties"]["AlarmDescription"]["Fn::Sub"]
    runbook = RUNBOOKS.get(name) or re.sub(r"(?<!^)(?=[A-Z])", "-", name.removesuffix("Alarm")).lower() + ".md"
    assert re.fullmatch(r"[A-Z].+\. \$\{RunbookBaseUrl\}/" + re.escape(runbook), description)
    text = (ROOT / "docs/runbooks" / runbook).read_text()
    # The order that someone who was woken up needs.
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Is anything lost?", "What happened", "Look here", "Do this", "How to know it is over"]


def test_every_alarm_is_in_the_table_of_runbooks():
    table = (ROOT / "docs/runbooks/README.md").read_text()
    rows = dict(re.findall(r"^\| (\w+Alarm) \| \[[\w.-]+\]\(([\w.-]+)\) \|$", table, re.MULTILINE))
    linked = {name: alarm["Properties"]["AlarmDescription"]["Fn::Sub"].rsplit("/", 1)[1] for name, alarm in ALARMS.items()}
    assert rows == linked


def test_the_costs_of_an_idle_stack_are_counted_right():
    secrets = [name for name, secret in resources_of("AWS::SecretsManager::Secret").items() if "Condition" not in secret]
    off = {"ReplaysAlarm"} & ALARMS.keys()
    text = " ".join((ROOT / "docs/deploy.md").read_text().split())
    assert f"{NUMBERS[len(secrets)]} secrets at 0.40 USD and {NUMBERS[len(ALARMS) - len(off)]} alarms at 0.10 USD" in text


def test_every_runbook_belongs_to_an_alarm():
    runbooks = {path.name for path in (ROOT / "docs/runbooks").glob("*.md")} - {"README.md"} - WITHOUT_ALARM
    linked = {alarm["Properties"]["AlarmDescription"]["Fn::Sub"].rsplit("/", 1)[1] for alarm in ALARMS.values()}
    assert runbooks == linked


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_reports_to_the_topic_when_there_is_one(name):
    action = {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}
    assert ALARMS[name]["Properties"]["AlarmActions"] == action
    assert ALARMS[name]["Properties"]["OKActions"] == action


@pytest.mark.parametrize("name", ALARMS)
def test_silence_is_good_except_from_who_runs_every_minute(name):
    expected = "breaching" if name in {"AuditorSilentAlarm", "DispatcherSilentAlarm"} else "notBreaching"
    assert ALARMS[name]["Properties"]["TreatMissingData"] == expected


def test_one_dead_letter_is_enough():
    alarm = properties("DeadLettersAlarm")
    assert alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": "DeadLetterQueue.QueueName"}}]
    assert (alarm["Statistic"], alarm["ComparisonOperator"]) == ("Maximum", "GreaterThanOrEqualToThreshold")
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (1, 1)


@pytest.mark.parametrize("metric", ["Conflicts", "Unreadable"])
def test_one_webhook_that_is_not_what_it_was_is_enough(metric):
    alarm = properties(f"{metric}Alarm")
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"]) == ({"Fn::Sub": "Posthouse/${AWS::StackName}"}, metric, 1)
    # The receiver counts by this name.
    assert f'counter!("{metric}")' in (ROOT / "functions/receiver/src/lib.rs").read_text()


def test_one_stale_keyring_is_enough():
    alarm = properties("StaleKeyringsAlarm")
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"]) == ({"Fn::Sub": "Posthouse/${AWS::StackName}"}, "StaleKeyrings", 1)
    counters = [path.read_text() for path in (ROOT / "shared/src").glob("secrets*/**/*.rs")] + [(ROOT / "shared/src/secrets.rs").read_text()]
    assert any('counter!("StaleKeyrings")' in text for text in counters)


def test_replays_ring_only_for_who_wants_it():
    assert TEMPLATE["Parameters"]["ReplaysAlarmThreshold"]["Default"] == 0
    assert TEMPLATE["Conditions"]["RingsForReplays"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ReplaysAlarmThreshold"}, 0]}]}
    assert RESOURCES["ReplaysAlarm"]["Condition"] == "RingsForReplays"
    assert properties("ReplaysAlarm")["Threshold"] == {"Ref": "ReplaysAlarmThreshold"}
    assert 'counter!("Replays")' in (ROOT / "functions/receiver/src/lib.rs").read_text()


def test_far_more_requests_than_usual_ring_unless_that_is_not_wanted():
    assert TEMPLATE["Conditions"]["RingsForRequests"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "RequestsPerHourAlarmCount"}, 0]}]}
    assert RESOURCES["RequestsAlarm"]["Condition"] == "RingsForRequests"
    alarm = properties("RequestsAlarm")
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"], alarm["Period"]) == ("AWS/ApiGateway", "Count", "Sum", 3600)
    assert alarm["Dimensions"] == [{"Name": "ApiId", "Value": {"Ref": "WebhookApi"}}]
    assert alarm["Threshold"] == {"Ref": "RequestsPerHourAlarmCount"}
    # The flood that the default throttle lets through must ring it.
    throttle = TEMPLATE["Parameters"]["ThrottleRequestsPerSecond"]["Default"]
    assert 0 < TEMPLATE["Parameters"]["RequestsPerHourAlarmCount"]["Default"] < throttle * 3600


def test_what_strangers_can_count_rings_no_alarm():
    for metric in ["UnknownSource", "PastFrontDoor"]:
        assert f'counter!("{metric}")' in "".join(path.read_text() for path in (ROOT / "functions/receiver/src").glob("*.rs"))
        assert metric not in {alarm["Properties"]["MetricName"] for alarm in ALARMS.values()}


def test_one_unaccounted_event_is_enough():
    alarm = properties("UnaccountedAlarm")
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"]) == ({"Fn::Sub": "Posthouse/${AWS::StackName}"}, "Unaccounted", 1)


@pytest.mark.parametrize("stage", ["dev", "staging", "prod"])
def test_a_stage_sets_parameters_that_are_there(stage):
    deploy = tomllib.loads((ROOT / "samconfig.toml").read_text())[stage]["deploy"]["parameters"]
    names = {override.split("=", 1)[0] for override in deploy["parameter_overrides"]}
    assert names <= TEMPLATE["Parameters"].keys()
    assert deploy["confirm_changeset"] is (stage == "prod")
