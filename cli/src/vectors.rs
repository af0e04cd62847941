//! `posthouse verify --vectors`: whether a whole file of requests is judged as expected.

use std::io::Write;

use shared::{
    door::{Keys, Rejection, Verdict},
    time::Timestamp,
};

use crate::{
    Outcome, Stop, Surroundings,
    args::VerifyArgs,
    capture, files, handshakes,
    judgement::{Case, Judged, no_keys},
    subject::{Catalogue, Subject},
    vector::{Expected, Vector},
    verify::printable,
};

/// Goes through all lines: one that cannot be read has failed, and the others are looked at all the same.
pub(crate) fn run(args: &VerifyArgs, mut surroundings: Surroundings, out: &mut impl Write) -> Result<Outcome, Stop> {
    let Some(path) = &args.vectors else { return Err(Stop::Asked("there is no --vectors".to_owned())) };
    let catalogue = Catalogue::load(args.config.as_deref())?;
    let bytes = files::read(path, &mut surroundings)?;
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match disagreement(&catalogue, line, surroundings.now) {
            None => passed += 1,
            Some(Disagreement { id, reason }) => {
                failed += 1;
                let number = index + 1;
                match id {
                    Some(id) => writeln!(out, "line {number}: {}: {}", printable(&id), printable(&reason))?,
                    None => writeln!(out, "line {number}: {}", printable(&reason))?,
                }
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok((failed == 0).into())
}

struct Disagreement {
    id: Option<String>,
    reason: String,
}

fn disagreement(catalogue: &Catalogue, line: &[u8], now: Timestamp) -> Option<Disagreement> {
    let vector = match Vector::parse(line) {
        Ok(vector) => vector,
        Err(reason) => return Some(Disagreement { id: None, reason }),
    };
    let reason = judge(catalogue, &vector, vector.now.unwrap_or(now)).err()?;
    Some(Disagreement { id: vector.id, reason })
}

/// Compares what is with what is expected; an error says how they differ.
fn judge(catalogue: &Catalogue, vector: &Vector, now: Timestamp) -> Result<(), String> {
    let expected = vector.expected.as_ref().ok_or("has neither `expect` nor `respond`")?;
    if !vector.has_secrets {
        return Err("has no `secrets`".to_owned());
    }
    let name = vector.scheme.as_deref().ok_or("has neither `scheme` nor `provider`")?;
    let mut subject = catalogue.subject(name)?;
    if !subject.is_configured && matches!(expected, Expected::Verdict { .. }) {
        // Which methods are taken is a source's setting: here it is about signatures.
        subject.source.methods = vec![vector.webhook.method.clone()];
    }
    let mut webhook = vector.webhook.clone();
    if let Some(url) = subject.registered_url() {
        capture::register(&mut webhook, &url);
    }
    let none = no_keys();
    let keyring = vector.keyring.as_ref().unwrap_or(&none);
    let keys = Keys { keyring, handshake_keyring: vector.handshake_secrets.as_ref(), fetched: None };
    let case = Case { source: &subject.source, webhook: &webhook, keys, now };
    if case.wants_key() {
        return Err("cannot tell: its signing key has to be fetched; use --request".to_owned());
    }
    let verdict = case.verdict();
    match expected {
        Expected::Answer(answer) => handshakes::disagreement(&subject.source, &verdict, answer).map_or(Ok(()), Err),
        Expected::Verdict { valid } => disagreement_of(&subject, *valid, &verdict).map_or(Ok(()), Err),
    }
}

/// How a verdict differs from whether the request should be proven, if it does. A handshake that needs no signature proves nothing.
fn disagreement_of(subject: &Subject, valid: bool, verdict: &Result<Verdict<'_>, Rejection>) -> Option<String> {
    let proving = verdict.as_ref().ok().and_then(Verdict::key_id);
    match (valid, proving) {
        (true, Some(_)) | (false, None) => None,
        (true, None) => Some(format!("expected valid, got {}", Judged::of(&subject.source, verdict).headline)),
        (false, Some(key_id)) => Some(format!("expected invalid, got valid by key {key_id}")),
    }
}
