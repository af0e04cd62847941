//! `posthouse verify --request`: whether one captured webhook is genuine, and exactly why not.

use std::{borrow::Cow, io::Write, sync::Arc};

use shared::{
    aws::{self, CallTimeouts},
    event::BodyDigest,
    fetched::{FetchError, FetchedKeys},
    secrets::Keyring,
    signatures::{Examination, Refusal, UnverifiedWebhook, public_key::PublicKey},
    time::Timestamp,
};

use crate::{
    Outcome, Stop, Surroundings, advice,
    args::VerifyArgs,
    capture::{self, Captured},
    files,
    providers::{algorithm_name, algorithms},
    subject::{Catalogue, Subject},
};

const NO_SECRET: &str = "there is no secret to verify with: set POSTHOUSE_SECRET or give --secret-file";

/// Where a value begins in a line of the report.
const LABEL_COLUMNS: usize = 12;

pub(crate) async fn run(args: &VerifyArgs, mut surroundings: Surroundings, out: &mut impl Write) -> Result<Outcome, Stop> {
    let Some(path) = &args.request else { return Err(Stop::Asked("there is no --request".to_owned())) };
    let catalogue = Catalogue::load(args.config.as_deref())?;
    let captured = Captured::parse(&files::read(path, &mut surroundings)?, path)?;
    let named = args.source.as_deref().or(match &captured {
        Captured::Vector(vector) => vector.scheme.as_deref(),
        Captured::Http(_) => None,
    });
    let subject = catalogue.source(named.ok_or_else(|| Stop::Asked("whose webhook is it? give --source".to_owned()))?)?;
    let of_file = files::keyring(args.secret_file.as_deref(), None)?;
    let environment = || files::keyring(None, surroundings.secret.as_ref());
    let (webhook, keyring, now) = match captured {
        Captured::Http(request) => {
            let registered = args.url.as_deref().or(subject.public_url.as_deref());
            let webhook = request.into_webhook(registered, subject.scheme.signs_url())?;
            (webhook, of_file.map_or_else(environment, |keyring| Ok(Some(keyring)))?, None)
        }
        Captured::Vector(vector) => {
            let mut webhook = vector.webhook;
            if let Some(url) = &args.url {
                let url =
                    capture::with_query(url, Some(&webhook.raw_query).filter(|query| !query.is_empty()).map(String::as_str));
                let (url, query) = url.split_once('?').unwrap_or((&url, ""));
                (webhook.url, webhook.raw_query) = (url.to_owned(), query.to_owned());
            }
            let keyring = match (of_file, vector.has_secrets) {
                (Some(keyring), _) => Some(keyring),
                (None, true) => vector.keyring,
                (None, false) => environment()?,
            };
            (webhook, keyring, vector.now)
        }
    };
    let keyring = keyring.ok_or_else(|| Stop::Asked(NO_SECRET.to_owned()))?;
    let now = args.now.or(now).unwrap_or(surroundings.now);
    Case { subject: &subject, webhook: &webhook, keyring: &keyring, now }.tell(out).await
}

/// What a verdict is about.
struct Case<'c> {
    subject: &'c Subject,
    webhook: &'c UnverifiedWebhook,
    keyring: &'c Keyring,
    now: Timestamp,
}

impl Case<'_> {
    async fn tell(&self, out: &mut impl Write) -> Result<Outcome, Stop> {
        let (examination, fetched) = self.examine().await?;
        match &examination.verdict {
            Ok(key_id) => self.accepted(out, &examination, fetched.as_deref(), key_id)?,
            Err(refusal) => self.refused(out, &examination, *refusal)?,
        }
        self.notes(out)?;
        Ok(examination.verdict.is_ok().into())
    }

    /// Examines the webhook. Where its provider's public key has to be fetched, as AWS's for SNS, it is.
    async fn examine(&self) -> Result<(Examination, Option<Arc<PublicKey>>), Stop> {
        let examine = |fetched: Option<&PublicKey>| self.subject.scheme.examine(self.webhook, self.keyring, fetched, self.now);
        let refused = |refusal| (Examination { verdict: Err(refusal), ..examine(None) }, None);
        let wanted = match self.subject.scheme.wanted_key(self.webhook, self.keyring, self.now) {
            Ok(None) => return Ok((examine(None), None)),
            Ok(Some(wanted)) => wanted,
            Err(refusal) => return Ok(refused(refusal)),
        };
        let config = aws::configure("posthouse", CallTimeouts::INTERACTIVE).await;
        match FetchedKeys::new(&config).get(&wanted, Some(self.keyring), self.now).await {
            Ok(key) => Ok((examine(Some(&key)), Some(key))),
            Err(FetchError::Refused(_)) => Ok(refused(Refusal::UntrustedKey)),
            Err(error) => Err(Stop::Asked(format!("cannot tell: {error}"))),
        }
    }

    fn accepted(
        &self,
        out: &mut impl Write,
        examination: &Examination,
        fetched: Option<&PublicKey>,
        key_id: &str,
    ) -> Result<(), Stop> {
        writeln!(out, "valid")?;
        line(out, "scheme", &scheme_words(self.subject, examination))?;
        line(out, "key", key_id)?;
        self.identity(out, fetched)?;
        match sent_words(examination) {
            Some(sent) => line(out, "sent", &sent),
            None => Ok(()),
        }
    }

    /// Id, type and time, as the receiver would record them.
    fn identity(&self, out: &mut impl Write, fetched: Option<&PublicKey>) -> Result<(), Stop> {
        let Ok(verified) = self.subject.scheme.verify(self.webhook, self.keyring, fetched, self.now) else { return Ok(()) };
        match self.subject.event.identify(&verified, &BodyDigest::of(&self.webhook.body), self.now) {
            Ok(identity) => {
                line(out, "event id", identity.event_id.as_str())?;
                line(out, "type", identity.event_type.as_str())?;
                match identity.occurred_at {
                    Some(occurred_at) => line(out, "occurred", &occurred_at.to_rfc3339()),
                    None => Ok(()),
                }
            }
            Err(error) => line(out, "event id", &format!("{error}; the receiver refuses it with 400")),
        }
    }

    fn refused(&self, out: &mut impl Write, examination: &Examination, refusal: Refusal) -> Result<(), Stop> {
        writeln!(out, "invalid: {refusal}")?;
        line(out, "scheme", &scheme_words(self.subject, examination))?;
        for looked in &examination.looked {
            line(out, "looked at", &format!("{}: {}", looked.at, if looked.found { "there" } else { "not there" }))?;
        }
        if examination.alternative.is_some() {
            line(out, "signatures", &format!("{} that can be read", examination.candidates))?;
            let (usable, unusable) = (examination.keys_usable, examination.keys_unusable);
            let expired = examination.keys_expired;
            line(out, "keys", &format!("{usable} tried, {unusable} not written as the scheme says, {expired} expired"))?;
        } else {
            let names = advice::signature_like(self.webhook, &examination.looked);
            let names =
                if names.is_empty() { "no other header that looks like a signature".to_owned() } else { names.join(", ") };
            line(out, "instead", &names)?;
        }
        if let Some(content) = &examination.content {
            let secret = if content.without_secret { " without the secret within it" } else { "" };
            line(out, "signed", &format!("{} bytes, SHA-256 {}{secret}", content.bytes, content.sha256))?;
        }
        let body = &self.webhook.body;
        line(out, "body", &format!("{} bytes, SHA-256 {}", body.len(), BodyDigest::of(body).to_hex()))?;
        let missing = examination.missing.iter().map(|missing| ("missing", missing.clone()));
        let failed = examination.failed_check.iter().map(|place| ("fails at", place.clone()));
        let sent = sent_words(examination).map(|sent| ("sent", sent));
        let doubts = capture::doubts(self.webhook).into_iter().map(|doubt| ("beware", doubt));
        for (label, value) in missing.chain(failed).chain(sent).chain(doubts) {
            line(out, label, &value)?;
        }
        if refusal == Refusal::WrongSignature
            && let Some(found) = advice::nearly_right(&self.subject.scheme, self.webhook, self.keyring, self.now)
        {
            line(out, "found", &found)?;
        }
        advice::checks(self.subject, examination, refusal).iter().try_for_each(|check| line(out, "check", check))
    }

    /// What the signature says nothing about, but the receiver does.
    fn notes(&self, out: &mut impl Write) -> Result<(), Stop> {
        match self.subject.handshake(self.webhook) {
            Some(handshake) if handshake.signed => line(out, "note", "this is a handshake: answered, and no event"),
            Some(_) => line(out, "note", "this is a handshake: answered without a signature, and no event"),
            None if !self.subject.methods.contains(&self.webhook.method) => {
                line(out, "note", &format!("the receiver refuses {} with 405", self.webhook.method))
            }
            None => Ok(()),
        }
    }
}

fn scheme_words(subject: &Subject, examination: &Examination) -> String {
    let algorithm =
        examination.algorithm.map_or_else(|| algorithms(&subject.scheme), |algorithm| algorithm_name(algorithm).to_owned());
    match examination.alternative.filter(|_| subject.scheme.alternatives.len() > 1) {
        Some(number) => format!("{}: {algorithm}, alternative {number} of {}", subject.name, subject.scheme.alternatives.len()),
        None => format!("{}: {algorithm}", subject.name),
    }
}

fn sent_words(examination: &Examination) -> Option<String> {
    let time = examination.time.as_ref()?;
    let allowed = match time.tolerance_seconds {
        Some(seconds) => Cow::Owned(format!("{seconds} s allowed")),
        None => Cow::Borrowed("any allowed"),
    };
    let off = match time.seconds_ahead {
        Some(0) => "at this second".to_owned(),
        Some(ahead) if ahead > 0 => format!("{ahead} s ahead of the clock"),
        Some(behind) => format!("{} s ago", behind.unsigned_abs()),
        None => "no time that can be read".to_owned(),
    };
    Some(format!("{off} ({}; {allowed})", time.at))
}

/// One line of the report. What a sender wrote is shown without what a terminal would obey.
fn line(out: &mut impl Write, label: &str, value: &str) -> Result<(), Stop> {
    let value: String = value.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect();
    writeln!(out, "  {label:LABEL_COLUMNS$}{value}")?;
    Ok(())
}
