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
    "ReceiverFunction": {"LEDGER_TABLE", "CONTENT_TABLE", "BODIES_BUCKET", "DOORBELL_QUEUE_URL", "SECRETS_PREFIX", "GATEWAY_CONFIG", "METRICS_NAMESPACE"},
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
    "AuditorFunction": {"LEDGER_TABLE", "DOORBELL_QUEUE_URL", "GATEWAY_CONFIG", "METRICS_NAMESPACE"},
}

# A star in a resource needs a reason. Role and Sid of the statement, and why.
STARRED_RESOURCES = {
    ("ReceiverRole", "StoreLargeBodies"): "objects of one bucket; a body's key is its SHA-256",
    ("WorkerRole", "LoadLargeBodies"): "objects of one bucket; a body's key is its SHA-256",
    ("ReceiverRole", "ReadSigningSecrets"): "the stack's prefix; gateway.toml names the secrets, the template does not know them",
    ("ReceiverRole", "EnrolWhatHandshakesBring"): "secrets of the stack whose names end in `-enrolled`; gateway.toml names them",
    ("WorkerRole", "ReadDestinationSecrets"): "the stack's prefix; gateway.toml names the secrets, the template does not know them",
    ("WorkerRole", "KeepRefreshTokens"): "secrets of the stack whose names end in `-oauth`; gateway.toml names them",
    ("RotationRole", "ReadKeyrings"): "the stack's prefix; an operator may rotate any secret of the stack",
    ("RotationRole", "StageANewKeyring"): "the stack's prefix; an operator may rotate any secret of the stack",
}


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


def test_the_five_functions_are_there():
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


def test_the_access_log_is_json_without_headers_or_query():
    line = json.loads(properties("WebhookStage")["AccessLogSettings"]["Format"])
    assert {"requestId", "status", "path"} <= line.keys()
    assert not [value for value in line.values() if "header" in value or "query" in value.lower() or "authorizer" in value]


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
            {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["status", "attempts", "replay", "error_class", "last_error"]},
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


# ---- Auditor -------------------------------------------------------------------------------------------------------


def test_the_auditor_runs_every_minute_and_ends_before_the_next():
    (event,) = properties("AuditorFunction")["Events"].values()
    assert (event["Type"], event["Properties"]["Schedule"]) == ("Schedule", "rate(1 minute)")
    assert properties("AuditorFunction")["Timeout"] < 60
    assert properties("AuditorFunction")["EventInvokeConfig"]["MaximumRetryAttempts"] == 0


def test_redrive_is_invoked_by_hand_only():
    assert "Events" not in properties("RedriveFunction")


# ---- Secrets and rotation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", resources_of("AWS::SecretsManager::Secret"))
def test_a_secret_starts_as_what_nobody_knows(name):
    secret = properties(name)
    assert "SecretString" not in secret
    # Letters and digits only: text that starts with a brace would be read as a keyring.
    assert secret["GenerateSecretString"] == {"PasswordLength": 32, "ExcludePunctuation": True}
    assert secret["Name"]["Fn::Sub"].startswith("${AWS::StackName}/")


def test_the_sample_configuration_names_only_secrets_of_the_stack():
    configuration = tomllib.loads((ROOT / "infra/gateway/gateway.toml").read_text())
    entries = [*configuration["sources"].values(), *configuration["destinations"].values()]
    used = {entry["secret"] for entry in entries if "secret" in entry}
    created = {
        secret["Properties"]["Name"]["Fn::Sub"].removeprefix("${AWS::StackName}/")
        for secret in resources_of("AWS::SecretsManager::Secret").values()
    }
    assert used == created


def test_only_the_secret_with_both_ends_ours_rotates_by_itself_and_never_on_deployment():
    (schedule,) = resources_of("AWS::SecretsManager::RotationSchedule").values()
    assert schedule["Properties"]["SecretId"] == {"Ref": "DeliverySigningSecret"}
    assert schedule["Properties"]["RotateImmediatelyOnUpdate"] is False
    assert schedule["DependsOn"] == "SecretsManagerMayInvokeRotation"


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
    assert statement["Effect"] == "Allow"
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
            secrets = r".+[:}]secret:\$\{AWS::StackName\}/\*(-(enrolled|oauth)-\?{6})?"
            assert re.fullmatch(secrets + r"|\$\{BodiesBucket\.Arn\}/\*", text), text


def test_only_rotation_writes_secrets_and_receiver_and_worker_those_that_are_theirs():
    # Secrets Manager puts a hyphen and six characters behind a name: `*` alone would let in names that go on after the suffix.
    def suffix(name, file):
        return re.search(rf'{name}_SUFFIX: &str = "(.+)";', (ROOT / "shared/src/config" / file).read_text())[1]

    enrolled, oauth = suffix("ENROLLED", "mod.rs"), suffix("OAUTH", "http/auth.rs")
    prefix = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:${AWS::StackName}/*"
    writers = {
        role: resource["Fn::Sub"]
        for role, statement in (param.values for param in STATEMENTS)
        for resource in as_list(statement["Resource"])
        if "secretsmanager:PutSecretValue" in as_list(statement["Action"])
    }
    assert writers == {
        "RotationRole": prefix,
        "ReceiverRole": f"{prefix}{enrolled}-??????",
        "WorkerRole": f"{prefix}{oauth}-??????",
    }


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
    runbook = re.sub(r"(?<!^)(?=[A-Z])", "-", name.removesuffix("Alarm")).lower() + ".md"
    assert re.fullmatch(r"[A-Z].+\. \$\{RunbookBaseUrl\}/" + re.escape(runbook), description)
    text = (ROOT / "docs/runbooks" / runbook).read_text()
    # The order that someone who was woken up needs.
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Is anything lost?", "What happened", "Look here", "Do this", "How to know it is over"]


def test_every_runbook_belongs_to_an_alarm():
    runbooks = {path.name for path in (ROOT / "docs/runbooks").glob("*.md")} - {"README.md"}
    linked = {alarm["Properties"]["AlarmDescription"]["Fn::Sub"].rsplit("/", 1)[1] for alarm in ALARMS.values()}
    assert runbooks == linked


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_reports_to_the_topic_when_there_is_one(name):
    action = {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}
    assert ALARMS[name]["Properties"]["AlarmActions"] == action
    assert ALARMS[name]["Properties"]["OKActions"] == action


@pytest.mark.parametrize("name", ALARMS)
def test_silence_is_good_except_from_the_auditor(name):
    expected = "breaching" if name == "AuditorSilentAlarm" else "notBreaching"
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
    assert 'counter!("StaleKeyrings")' in (ROOT / "shared/src/secrets.rs").read_text()


def test_replays_ring_only_for_who_wants_it():
    assert TEMPLATE["Parameters"]["ReplaysAlarmThreshold"]["Default"] == 0
    assert TEMPLATE["Conditions"]["RingsForReplays"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ReplaysAlarmThreshold"}, 0]}]}
    assert RESOURCES["ReplaysAlarm"]["Condition"] == "RingsForReplays"
    assert properties("ReplaysAlarm")["Threshold"] == {"Ref": "ReplaysAlarmThreshold"}
    assert 'counter!("Replays")' in (ROOT / "functions/receiver/src/lib.rs").read_text()


def test_one_unaccounted_event_is_enough():
    alarm = properties("UnaccountedAlarm")
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"]) == ({"Fn::Sub": "Posthouse/${AWS::StackName}"}, "Unaccounted", 1)


@pytest.mark.parametrize("stage", ["dev", "staging", "prod"])
def test_a_stage_sets_parameters_that_are_there(stage):
    deploy = tomllib.loads((ROOT / "samconfig.toml").read_text())[stage]["deploy"]["parameters"]
    names = {override.split("=", 1)[0] for override in deploy["parameter_overrides"]}
    assert names <= TEMPLATE["Parameters"].keys()
    assert deploy["confirm_changeset"] is (stage == "prod")
