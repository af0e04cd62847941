//! Secrets Manager: versions of secrets and their staging labels.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::json;

use super::http::{Answer, Fault};

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
const PENDING: &str = "AWSPENDING";

/// All secrets of the account, by name.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    secrets: BTreeMap<String, Secret>,
    versions: u64,
}

#[derive(Debug, Default)]
struct Secret {
    versions: BTreeMap<String, Version>,
}

#[derive(Debug, Default)]
struct Version {
    /// `None` while a rotation has not yet put a value.
    text: Option<String>,
    stages: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Request {
    secret_id: String,
    version_id: Option<String>,
    version_stage: Option<String>,
    secret_string: Option<String>,
    client_request_token: Option<String>,
    version_stages: Option<Vec<String>>,
    move_to_version_id: Option<String>,
    remove_from_version_id: Option<String>,
}

type Handled = Result<serde_json::Value, (&'static str, String)>;

impl Secret {
    fn with(&self, stage: &str) -> Option<&str> {
        self.versions.iter().find(|(_, version)| version.stages.contains(stage)).map(|(id, _)| id.as_str())
    }

    /// Moves a label; AWSCURRENT leaves AWSPREVIOUS behind. Versions without labels are forgotten.
    fn stage(&mut self, stage: &str, id: &str) {
        let before = self.with(stage).map(str::to_owned);
        if before.as_deref() == Some(id) {
            return;
        }
        for version in self.versions.values_mut() {
            version.stages.remove(stage);
        }
        if let Some(version) = self.versions.get_mut(id) {
            version.stages.insert(stage.to_owned());
        }
        if let (CURRENT, Some(before)) = (stage, before) {
            self.stage(PREVIOUS, &before);
        }
    }

    fn forget_the_unlabelled(&mut self) {
        self.versions.retain(|_, version| !version.stages.is_empty());
    }
}

impl Secrets {
    pub(super) fn handle(&mut self, operation: &str, body: &[u8]) -> Answer {
        let request: Request =
            serde_json::from_slice(body).unwrap_or_else(|error| panic!("the model cannot read {operation}: {error}"));
        let name = name_of(&request.secret_id).to_owned();
        self.versions += 1;
        let number = self.versions;
        let handled = match self.secrets.get_mut(&name) {
            None => Err(("ResourceNotFoundException", "Secrets Manager can't find the specified secret.".to_owned())),
            Some(secret) => match operation {
                "GetSecretValue" => get(secret, &name, &request),
                "PutSecretValue" => put(secret, &name, request, number),
                "DescribeSecret" => {
                    let stages = |version: &Version| version.stages.iter().cloned().collect::<Vec<_>>();
                    let stages: BTreeMap<_, _> = secret.versions.iter().map(|(id, version)| (id, stages(version))).collect();
                    Ok(json!({"ARN": arn(&name), "Name": name, "VersionIdsToStages": stages}))
                }
                "UpdateSecretVersionStage" => update_stage(secret, &name, &request),
                other => panic!("the model has no Secrets Manager operation {other}"),
            },
        };
        match handled {
            Ok(answer) => Answer::json(200, answer.to_string()),
            Err((code, message)) => Answer::json(400, json!({"__type": code, "Message": message}).to_string()),
        }
    }

    // ---- The world's own side

    /// Sets a secret's current value, as an operator does.
    pub(super) fn set(&mut self, name: &str, text: &str) {
        self.versions += 1;
        let id = version_id(self.versions);
        let secret = self.secrets.entry(name.to_owned()).or_default();
        secret.versions.insert(id.clone(), Version { text: Some(text.to_owned()), stages: BTreeSet::new() });
        secret.stage(CURRENT, &id);
        secret.forget_the_unlabelled();
    }

    pub(super) fn current(&self, name: &str) -> Option<&str> {
        let secret = self.secrets.get(name)?;
        secret.versions.get(secret.with(CURRENT)?)?.text.as_deref()
    }

    /// Begins a rotation: a version without a value, labelled AWSPENDING.
    pub(super) fn begin_rotation(&mut self, name: &str, token: &str) {
        let secret = self.secrets.get_mut(name).unwrap_or_else(|| panic!("the model has no secret {name}"));
        secret.versions.entry(token.to_owned()).or_default();
        secret.stage(PENDING, token);
        secret.forget_the_unlabelled();
    }
}

fn get(secret: &Secret, name: &str, request: &Request) -> Handled {
    let stage = request.version_stage.as_deref();
    let id = match (&request.version_id, stage) {
        (Some(id), _) => id.as_str(),
        (None, stage) => secret.with(stage.unwrap_or(CURRENT)).unwrap_or_default(),
    };
    let found = secret.versions.get(id).filter(|version| stage.is_none_or(|stage| version.stages.contains(stage)));
    let Some((version, text)) = found.and_then(|version| Some((version, version.text.as_ref()?))) else {
        let what = stage.map_or_else(|| format!("VersionId: {id}"), |stage| format!("staging label: {stage}"));
        return Err(("ResourceNotFoundException", format!("Secrets Manager can't find the specified secret value for {what}")));
    };
    Ok(json!({"ARN": arn(name), "Name": name, "VersionId": id, "SecretString": text, "VersionStages": version.stages}))
}

fn put(secret: &mut Secret, name: &str, request: Request, number: u64) -> Handled {
    let id = request.client_request_token.unwrap_or_else(|| version_id(number));
    let text = request.secret_string.unwrap_or_default();
    match secret.versions.get(&id).map(|version| &version.text) {
        Some(Some(known)) if *known != text => {
            let message = "The version id is already in use with another value; a version cannot be changed".to_owned();
            return Err(("ResourceExistsException", message));
        }
        Some(Some(_)) => {}
        Some(None) | None => secret.versions.entry(id.clone()).or_default().text = Some(text),
    }
    for stage in request.version_stages.unwrap_or_else(|| vec![CURRENT.to_owned()]) {
        secret.stage(&stage, &id);
    }
    let stages = secret.versions.get(&id).map(|version| version.stages.clone());
    secret.forget_the_unlabelled();
    Ok(json!({"ARN": arn(name), "Name": name, "VersionId": id, "VersionStages": stages}))
}

fn update_stage(secret: &mut Secret, name: &str, request: &Request) -> Handled {
    let stage = request.version_stage.as_deref().unwrap_or_default();
    let has_it = secret.with(stage).map(str::to_owned);
    if request.remove_from_version_id != has_it
        && (request.remove_from_version_id.is_some() || request.move_to_version_id.is_some())
    {
        let message = format!("The staging label {stage} is on another version than RemoveFromVersionId names");
        // A label that is nowhere yet needs no RemoveFromVersionId; one that is where it should go needs none either.
        if has_it.is_some() && has_it != request.move_to_version_id || request.remove_from_version_id.is_some() {
            return Err(("InvalidParameterException", message));
        }
    }
    match &request.move_to_version_id {
        Some(id) if !secret.versions.contains_key(id) => {
            return Err(("ResourceNotFoundException", format!("Secrets Manager can't find the version {id}")));
        }
        Some(id) => secret.stage(stage, id),
        None if stage == CURRENT => {
            return Err(("InvalidParameterException", "You can't remove the AWSCURRENT label from a version".to_owned()));
        }
        None => {
            for version in secret.versions.values_mut() {
                version.stages.remove(stage);
            }
        }
    }
    secret.forget_the_unlabelled();
    Ok(json!({"ARN": arn(name), "Name": name}))
}

fn arn(name: &str) -> String {
    format!("arn:aws:secretsmanager:us-east-1:000000000000:secret:{name}-model0")
}

/// The name in an ARN, or what is a name already.
fn name_of(id: &str) -> &str {
    match id.split_once(":secret:") {
        Some((_, named)) => named.strip_suffix("-model0").unwrap_or(named),
        None => id,
    }
}

fn version_id(number: u64) -> String {
    format!("00000000-0000-4000-9000-{number:012}")
}

/// The errors that Secrets Manager gives for reasons of its own.
pub(super) fn fault(fault: Fault) -> Answer {
    match fault {
        Fault::Internal => Answer::json(
            500,
            json!({"__type": "InternalServiceError", "Message": "An error occurred on the server side."}).to_string(),
        ),
        Fault::Throttled => Answer::json(400, json!({"__type": "ThrottlingException", "message": "Rate exceeded"}).to_string()),
    }
}
