//! `posthouse verify --request`: what the receiver answers one captured request, and exactly why.

use std::{borrow::Cow, io::Write, sync::Arc};

use shared::{
    aws::{self, CallTimeouts},
    door::{self, Asked, Greeting, Keys, Meeting, Rejection, Verdict},
    event::{BodyDigest, Identified, Identity},
    fetched::{FetchError, FetchedKeys},
    location::Places,
    secrets::Keyring,
    signatures::{Examination, Refusal, UnverifiedWebhook, VerifiedWebhook, public_key::PublicKey},
    time::Timestamp,
};

use crate::{
    Outcome, Stop, Surroundings, advice,
    args::VerifyArgs,
    capture::{self, Captured},
    check::counted,
    files,
    judgement::{Case, Judged, identities, no_keys},
    providers::{algorithm_name, algorithms},
    subject::{Catalogue, Subject},
};

const NO_SECRET: &str = "there is no secret to verify with: set POSTHOUSE_SECRET or give --secret-file";
const NO_HANDSHAKE_SECRET: &str =
    "this is a handshake that depends on the source's handshake secret: give --handshake-secret-file";

/// Where a value begins in a line of the report.
const LABEL_COLUMNS: usize = 12;
/// How much of an answer is shown, in bytes.
const ANSWER_BYTES_MAX: usize = 80;

pub(crate) async fn run(args: &VerifyArgs, mut surroundings: Surroundings, out: &mut impl Write) -> Result<Outcome, Stop> {
    let Some(path) = &args.request else { return Err(Stop::Asked("there is no --request".to_owned())) };
    let catalogue = Catalogue::load(args.config.as_deref())?;
    let captured = Captured::parse(&files::read(path, &mut surroundings)?, path)?;
    let named = args.source.as_deref().or(match &captured {
        Captured::Vector(vector) => vector.scheme.as_deref(),
        Captured::Http(_) => None,
    });
    let named = named.ok_or_else(|| Stop::Asked("whose webhook is it? give --source".to_owned()))?;
    let subject = catalogue.subject(named).map_err(Stop::Asked)?;
    let of_file = files::keyring(args.secret_file.as_deref(), None)?;
    let handshake_file = files::keyring(args.handshake_secret_file.as_deref(), None)?;
    let environment = || files::keyring(None, surroundings.secret.as_ref());
    let registered = args.url.clone().or_else(|| subject.registered_url());
    let (webhook, keyring, handshake_keyring, now) = match captured {
        Captured::Http(request) => {
            let webhook = request.into_webhook(registered.as_deref(), subject.source.scheme.signs_url())?;
            (webhook, of_file.map_or_else(environment, |keyring| Ok(Some(keyring)))?, handshake_file, None)
        }
        Captured::Vector(vector) => {
            let mut webhook = vector.webhook;
            if let Some(url) = &registered {
                capture::register(&mut webhook, url);
            }
            let keyring = match (of_file, vector.has_secrets) {
                (Some(keyring), _) => Some(keyring),
                (None, true) => vector.keyring,
                (None, false) => environment()?,
            };
            (webhook, keyring, handshake_file.or(vector.handshake_secrets), vector.now)
        }
    };
    let needs_key = match door::ask(&subject.source, &webhook) {
        Ok(Asked::Webhook(_)) => true,
        Ok(Asked::Handshake(meeting)) => meeting.needs_key(),
        Err(_) => false,
    };
    if needs_key && keyring.is_none() {
        return Err(Stop::Asked(NO_SECRET.to_owned()));
    }
    let report = Report {
        subject: &subject,
        webhook: &webhook,
        has_keys: keyring.is_some(),
        keyring: &keyring.unwrap_or_else(no_keys),
        handshake_keyring: handshake_keyring.as_ref(),
        now: args.now.or(now).unwrap_or(surroundings.now),
    };
    report.tell(out).await
}

/// What a verdict is about.
struct Report<'c> {
    subject: &'c Subject,
    webhook: &'c UnverifiedWebhook,
    /// Whether the keyring is one that was given.
    has_keys: bool,
    keyring: &'c Keyring,
    handshake_keyring: Option<&'c Keyring>,
    now: Timestamp,
}

impl Report<'_> {
    async fn tell(&self, out: &mut impl Write) -> Result<Outcome, Stop> {
        let source = &self.subject.source;
        let fetched = self.fetch().await?;
        let keys = Keys {
            keyring: self.keyring,
            handshake_keyring: self.handshake_keyring,
            fetched: fetched.as_ref().ok().and_then(Option::as_deref),
        };
        let verdict = match &fetched {
            Ok(_) => Case { source, webhook: self.webhook, keys, now: self.now }.verdict(),
            Err(refusal) => Err((*refusal).into()),
        };
        if matches!(verdict, Err(Rejection::Handshake { .. })) && self.lacks_handshake_secret() {
            return Err(Stop::Asked(NO_HANDSHAKE_SECRET.to_owned()));
        }
        let judged = Judged::of(source, &verdict);
        writeln!(out, "{}", printable(&judged.headline))?;
        let mut examination = source.scheme.examine(self.webhook, self.keyring, keys.fetched, self.now);
        if let Err(refusal) = fetched {
            examination.verdict = Err(refusal);
        }
        line(out, "scheme", &scheme_words(self.subject, &examination))?;
        match &verdict {
            Ok(Verdict::Webhook { verified, identified }) => {
                self.accepted(out, &examination, verified, identified, judged.status)?
            }
            Ok(Verdict::Handshake { meeting, greeting }) => self.answered(out, meeting, greeting)?,
            Err(Rejection::BadSignature(_) | Rejection::Stale(_) | Rejection::Unavailable { .. }) => {
                line(out, "answer", &judged.status.to_string())?;
                self.refused(out, &examination)?;
            }
            Err(_) if self.has_keys => match &examination.verdict {
                Ok(key_id) => line(out, "key", key_id)?,
                Err(refusal) => line(out, "note", &refusal.to_string())?,
            },
            Err(_) => {}
        }
        Ok(verdict.is_ok().into())
    }

    /// Fetches its provider's public key where it is needed, as AWS's for SNS.
    async fn fetch(&self) -> Result<Result<Option<Arc<PublicKey>>, Refusal>, Stop> {
        let Ok(Asked::Webhook(unproven)) = door::ask(&self.subject.source, self.webhook) else { return Ok(Ok(None)) };
        let Ok(Some(wanted)) = unproven.wanted_key(self.keyring, self.now) else { return Ok(Ok(None)) };
        let config = aws::configure("posthouse", CallTimeouts::INTERACTIVE).await;
        match FetchedKeys::new(&config).get(&wanted, Some(self.keyring), self.now).await {
            Ok(key) => Ok(Ok(Some(key))),
            Err(FetchError::Refused(_)) => Ok(Err(Refusal::UntrustedKey)),
            Err(error) => Err(Stop::Asked(format!("cannot tell: {error}"))),
        }
    }

    /// Whether a handshake that the request is cannot be judged for want of what it compares.
    fn lacks_handshake_secret(&self) -> bool {
        let places = Places::new(self.webhook);
        let mut meant = self.subject.source.handshakes.iter().filter(|handshake| handshake.is_meant(&places));
        self.handshake_keyring.is_none() && meant.any(|handshake| handshake.needs_handshake_secret())
    }

    fn accepted(
        &self,
        out: &mut impl Write,
        examination: &Examination,
        verified: &VerifiedWebhook<'_>,
        identified: &Identified,
        status: u16,
    ) -> Result<(), Stop> {
        line(out, "key", verified.key_id())?;
        if !verified.signed_url().is_empty() {
            line(out, "URL", &format!("signed {}", verified.signed_url()))?;
        }
        let events = identities(identified);
        if matches!(identified, Identified::Each(_)) {
            line(out, "batch", &format!("of {}, each an event of its own", counted(events.len(), "event")))?;
        }
        events.into_iter().try_for_each(|identity| named(out, identity))?;
        if let Some(sent) = sent_words(examination) {
            line(out, "sent", &sent)?;
        }
        line(out, "answer", &status.to_string())
    }

    fn answered(&self, out: &mut impl Write, meeting: &Meeting<'_>, greeting: &Greeting) -> Result<(), Stop> {
        if let Some(key_id) = &meeting.key_id {
            line(out, "key", key_id)?;
        }
        let body = &greeting.answer.body;
        // What is made with a key is a signature of its own.
        let is_shown = !meeting.needs_key() && !meeting.needs_handshake_secret() && body.len() <= ANSWER_BYTES_MAX;
        let shown = if is_shown && !body.is_empty() { format!(": {body}") } else { String::new() };
        line(out, "body", &format!("{} bytes{shown}", body.len()))?;
        if greeting.enrol.is_some() {
            line(out, "enrols", "its secret becomes a key of the source while enrolment is open; else it is answered 403")?;
        }
        if greeting.confirm.is_some() {
            line(out, "confirms", "the receiver asks AWS first; where that fails it is answered 503")?;
        }
        line(out, "note", "a handshake is no event: nothing is recorded")
    }

    fn refused(&self, out: &mut impl Write, examination: &Examination) -> Result<(), Stop> {
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
        let refusal = match examination.verdict {
            Err(refusal) => refusal,
            Ok(_) => {
                let why = "the signature is right, but a handshake of this source signs such content for anybody who asks";
                return line(out, "check", why);
            }
        };
        if refusal == Refusal::WrongSignature
            && let Some(found) = advice::nearly_right(&self.subject.source.scheme, self.webhook, self.keyring, self.now)
        {
            line(out, "found", &found)?;
        }
        let places = Places::new(self.webhook);
        if self.subject.source.handshakes.iter().any(|handshake| handshake.signed && handshake.is_meant(&places)) {
            line(out, "note", "this is a handshake: it is answered once its signature is right")?;
        }
        advice::checks(self.subject, examination, refusal).iter().try_for_each(|check| line(out, "check", check))
    }
}

/// The lines about one event.
fn named(out: &mut impl Write, identity: &Identity) -> Result<(), Stop> {
    line(out, "event id", identity.event_id.as_str())?;
    if let Some(reason) = &identity.unreadable {
        line(out, "unreadable", &format!("{reason}; the receiver accepts it under its digest, and an alarm rings"))?;
    }
    line(out, "type", identity.event_type.as_str())?;
    match identity.occurred_at {
        Some(occurred_at) => line(out, "occurred", &occurred_at.to_rfc3339()),
        None => Ok(()),
    }
}

fn scheme_words(subject: &Subject, examination: &Examination) -> String {
    let scheme = &subject.source.scheme;
    let algorithm = examination.algorithm.map_or_else(|| algorithms(scheme), |algorithm| algorithm_name(algorithm).to_owned());
    match examination.alternative.filter(|_| scheme.alternatives.len() > 1) {
        Some(number) => format!("{}: {algorithm}, alternative {number} of {}", subject.name, scheme.alternatives.len()),
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

/// One line of the report.
fn line(out: &mut impl Write, label: &str, value: &str) -> Result<(), Stop> {
    writeln!(out, "  {label:LABEL_COLUMNS$}{}", printable(value))?;
    Ok(())
}

/// What a sender wrote, without what a terminal would obey.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) { text.replace(char::is_control, "\u{fffd}").into() } else { text.into() }
}
