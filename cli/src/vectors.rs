//! `posthouse verify --vectors`: whether a whole file of requests is judged as expected.

use std::{borrow::Cow, io::Write};

use shared::{location::Places, signatures::Refusal, time::Timestamp};

use crate::{
    Outcome, Stop, Surroundings,
    args::VerifyArgs,
    files, handshakes,
    subject::{Catalogue, Subject},
    vector::{Expected, Vector},
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
    let subject = catalogue.scheme(name)?;
    match expected {
        Expected::Answer(answer) => handshakes::disagreement(&subject, vector, answer, now).map_or(Ok(()), Err),
        Expected::Verdict { valid } => match (*valid, proven(&subject, vector, now)?) {
            (true, Ok(_)) | (false, Err(_)) => Ok(()),
            (true, Err(refusal)) => Err(format!("expected valid, got invalid: {refusal}")),
            (false, Ok(key_id)) => Err(format!("expected invalid, got valid by key {key_id}")),
        },
    }
}

/// The id of the key that proves it, or why none does. An error: it cannot be told, since a file of vectors is looked at without
/// a network.
pub(crate) fn proven(subject: &Subject, vector: &Vector, now: Timestamp) -> Result<Result<String, Refusal>, String> {
    let Some(keyring) = &vector.keyring else {
        let is_signed = subject.scheme.is_signed(&Places::new(&vector.webhook));
        return Ok(Err(if is_signed { Refusal::UnusableKey } else { Refusal::MissingSignature }));
    };
    match subject.scheme.wanted_key(&vector.webhook, keyring, now) {
        Ok(None) => {}
        Ok(Some(_)) => return Err("cannot tell: its signing key has to be fetched; use --request".to_owned()),
        Err(refusal) => return Ok(Err(refusal)),
    }
    let verified = subject.scheme.verify(&vector.webhook, keyring, None, now);
    Ok(verified.map(|verified| verified.key_id().to_owned()))
}

/// Without what a terminal would obey.
fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) { text.replace(char::is_control, "\u{fffd}").into() } else { text.into() }
}
