//! Why a webhook is or is not proven, for the person who has to mend it. Shows no secret and no expected signature.

use super::{
    Refusal, Scheme, UnverifiedWebhook,
    public_key::PublicKey,
    scheme::{Algorithm, SignatureList},
    verify::Reading,
};
use crate::{location::Places, secrets::Keyring, time::Timestamp};

/// What was looked at on the way to a verdict.
#[derive(Debug)]
pub struct Examination {
    /// The id of the key that proved it, or why none did.
    pub verdict: Result<String, Refusal>,
    /// The alternative that decided, counted from 1; `None` if the request has the signature of none.
    pub alternative: Option<usize>,
    /// Its algorithm.
    pub algorithm: Option<Algorithm>,
    /// Where signatures were looked for; of all alternatives, if none decided.
    pub looked: Vec<Looked>,
    /// Signatures found that could be decoded.
    pub candidates: usize,
    /// Keys that are valid at that time and can be used with the scheme.
    pub keys_usable: usize,
    /// Keys that are valid at that time, but not written as the scheme says.
    pub keys_unusable: usize,
    /// Keys whose time is over.
    pub keys_expired: usize,
    /// What is signed, a secret within it left out.
    pub content: Option<Content>,
    /// What the signed content needs and the request has not.
    pub missing: Option<String>,
    /// When it was sent.
    pub time: Option<TimeSent>,
    /// The first check that does not hold.
    pub failed_check: Option<String>,
}

/// A place that was looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Looked {
    /// As it is written in a configuration.
    pub at: String,
    /// Whether anything was there.
    pub found: bool,
}

/// Signed content.
#[derive(Debug, PartialEq, Eq)]
pub struct Content {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Whether a secret was left out of it.
    pub without_secret: bool,
}

/// A timestamp that was sent.
#[derive(Debug, PartialEq, Eq)]
pub struct TimeSent {
    /// Where it was looked for.
    pub at: String,
    /// How far it is ahead of the clock, in seconds; behind is negative. `None` if it cannot be read.
    pub seconds_ahead: Option<i64>,
    /// How far it may be off.
    pub tolerance_seconds: Option<u64>,
}

impl Scheme {
    /// Verifies `webhook` as [`Scheme::verify`] does, and tells what was looked at.
    pub fn examine(
        &self,
        webhook: &UnverifiedWebhook,
        keyring: &Keyring,
        fetched: Option<&PublicKey>,
        now: Timestamp,
    ) -> Examination {
        let verdict = self.verify(webhook, keyring, fetched, now).map(|verified| verified.key_id().to_owned());
        let places = Places::new(webhook);
        let chosen = self
            .alternatives
            .iter()
            .position(|alternative| self.alternative(&places).is_some_and(|(deciding, _)| std::ptr::eq(deciding, alternative)));
        let (deciding, looked_in) = match chosen {
            Some(index) => (Some(&self.alternatives[index]), &self.alternatives[index..=index]),
            None => (None, self.alternatives.as_slice()),
        };
        let looked = looked_in
            .iter()
            .flat_map(|alternative| alternative.signature.at.iter())
            .map(|place| Looked { at: place.to_string(), found: places.find(place).is_some() })
            .collect();
        let mut examination = Examination {
            verdict,
            alternative: chosen.map(|index| index + 1),
            algorithm: deciding.map(|alternative| alternative.algorithm),
            looked,
            candidates: 0,
            keys_usable: 0,
            keys_unusable: 0,
            keys_expired: keyring.keys().len() - keyring.valid_at(now).count(),
            content: None,
            missing: None,
            time: None,
            failed_check: None,
        };
        if let Some(alternative) = deciding {
            let mut reading = Reading::new(alternative, &places);
            reading.timestamp = reading.timestamp_text();
            examination.look_closer(&reading, keyring, now);
        }
        examination
    }
}

impl Examination {
    fn look_closer(&mut self, reading: &Reading<'_>, keyring: &Keyring, now: Timestamp) {
        let alternative = reading.alternative;
        let usable: Vec<_> = keyring.valid_at(now).map(|key| alternative.secret.usable(&key.secret)).collect();
        self.keys_usable = usable.iter().flatten().count();
        self.keys_unusable = usable.len() - self.keys_usable;
        let by_key_id = alternative.signature.list.as_ref().is_some_and(SignatureList::is_by_key_id);
        let ids = usable.iter().flatten().map(|key| key.public_id).take(if by_key_id { usable.len() } else { 1 });
        self.candidates = match alternative.signature.encoding {
            Some(_) => ids.map(|id| reading.decodable(id)).sum(),
            None => usize::from(reading.sent.is_some()),
        };
        if let Some(signed) = &alternative.signed {
            let url = &reading.urls()[0].url;
            let (bytes, digest) = reading.content_digest(signed, url);
            let without_secret = signed.uses(&super::template::Variable::Secret);
            self.content = Some(Content { bytes, sha256: hex::encode(digest), without_secret });
            self.missing = reading.missing_part(url).map(ToString::to_string);
        }
        self.time = alternative.timestamp.as_ref().map(|spec| TimeSent {
            at: spec.at.to_string(),
            seconds_ahead: reading.timestamp.as_deref().and_then(|text| spec.format.read(text)).map(|sent| {
                let off = i64::try_from(sent.seconds().abs_diff(now.seconds())).unwrap_or(i64::MAX);
                if sent < now { -off } else { off }
            }),
            tolerance_seconds: spec.tolerance_seconds,
        });
        if self.verdict == Err(Refusal::FailedCheck) {
            self.failed_check = reading.failed_check().map(|check| check.at.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::signatures::preset::Preset;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn examine(preset: &str, headers: &[(&str, &str)], body: &[u8], secret: &str) -> Examination {
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let webhook = UnverifiedWebhook::new(Method::POST, "https://example.com/webhook", &headers, body.to_vec());
        Preset::find(preset).unwrap().unwrap().scheme.examine(&webhook, &Keyring::parse(secret).unwrap(), None, NOW)
    }

    #[test]
    fn a_missing_header_is_named() {
        let examination = examine("github", &[("x-hub-signature", "sha1=00")], b"{}", "s");
        assert_eq!(examination.verdict, Err(Refusal::MissingSignature));
        assert_eq!(examination.looked, [Looked { at: "header:x-hub-signature-256".into(), found: false }]);
        assert_eq!(examination.alternative, None);
    }

    #[test]
    fn a_wrong_signature_shows_what_was_signed_and_how_far_the_clock_is_off() {
        let examination = examine("stripe", &[("stripe-signature", "t=1699999000,v1=00,v1=0g")], b"{}", "s");
        assert_eq!(examination.verdict, Err(Refusal::WrongSignature));
        assert_eq!((examination.candidates, examination.keys_usable), (1, 1));
        let content = examination.content.unwrap();
        assert_eq!((content.bytes, content.sha256.len(), content.without_secret), (13, 64, false));
        assert_eq!(examination.time.unwrap().seconds_ahead, Some(-1000));
    }

    #[test]
    fn a_secret_within_the_content_is_left_out_of_its_digest() {
        let secret = "made-up-secret";
        let examination = examine("cloudinary", &[("x-cld-signature", "00"), ("x-cld-timestamp", "1700000000")], b"{}", secret);
        let content = examination.content.as_ref().unwrap();
        assert_eq!((content.bytes, content.without_secret), (12, true));
        assert!(!format!("{examination:?}").contains(secret));
    }

    #[test]
    fn keys_that_cannot_be_used_are_counted() {
        let headers = [("webhook-id", "m"), ("webhook-timestamp", "1700000000"), ("webhook-signature", "v1,AAAA")];
        let examination = examine("standard-webhooks", &headers, b"", "not base64!");
        assert_eq!(examination.verdict, Err(Refusal::UnusableKey));
        assert_eq!((examination.keys_usable, examination.keys_unusable), (0, 1));
    }
}
