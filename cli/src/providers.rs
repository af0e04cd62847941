//! `posthouse providers`: what comes configured, and the settings to paste.

use std::io::Write;

use shared::{
    config::ENROLLED_SUFFIX,
    signatures::{
        Algorithm, Scheme,
        handshake::Handshake,
        preset::{Known, Preset, RetryTime},
    },
};

use crate::{Outcome, Stop, advice, args::ProvidersArgs, page, subject::did_you_mean};

/// What stands for a URL in settings to paste.
const URL_TO_FILL_IN: &str = "https://example.com/v1/webhooks/";

/// A preset with its name.
pub(crate) struct Provider {
    pub(crate) name: &'static str,
    pub(crate) preset: Preset,
    text: &'static str,
}

/// Prints the table, one provider, its scheme to change, or the page.
pub(crate) fn run(args: &ProvidersArgs, out: &mut impl Write) -> Result<Outcome, Stop> {
    match &args.name {
        Some(name) => {
            let provider = Provider::find(name)?;
            if args.inline {
                write!(out, "{}", provider.inline())?;
            } else {
                provider.describe(out)?;
            }
        }
        None if args.markdown => page::write(out)?,
        None => table(out)?,
    }
    Ok(Outcome::Yes)
}

fn table(out: &mut impl Write) -> Result<(), Stop> {
    let mut rows = vec![["NAME", "PROVIDER", "ALGORITHM", "KNOWN FROM"].map(str::to_owned)];
    for provider in Provider::all() {
        let Provider { name, preset, .. } = provider?;
        rows.push([name.to_owned(), preset.name.clone(), algorithms(&preset.scheme), preset.verified.words().to_owned()]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    for [name, provider, algorithm, known] in &rows {
        writeln!(out, "{name:0$}  {provider:1$}  {algorithm:2$}  {known}", widths[0], widths[1], widths[2])?;
    }
    Ok(())
}

impl Provider {
    /// All of them, by name.
    pub(crate) fn all() -> impl Iterator<Item = Result<Self, Stop>> {
        Preset::names().map(Self::find)
    }

    fn find(name: &str) -> Result<Self, Stop> {
        let known = Preset::names().find(|known| *known == name);
        let found = known.and_then(|known| Some((known, Preset::find(known)?, Preset::text(known)?)));
        let Some((name, preset, text)) = found else {
            let hint = did_you_mean(name, Preset::names());
            return Err(Stop::Asked(format!("there is no preset `{name}`{hint}; `posthouse providers` lists them")));
        };
        Ok(Self { name, preset: preset.map_err(Stop::Asked)?, text })
    }

    fn describe(&self, out: &mut impl Write) -> Result<(), Stop> {
        let preset = &self.preset;
        writeln!(out, "{} ({})\n", preset.name, self.name)?;
        for (label, value) in self.facts() {
            writeln!(out, "{label:13}{value}")?;
        }
        for note in &preset.notes {
            writeln!(out, "- {note}")?;
        }
        writeln!(out, "\nIn gateway.toml:\n\n{}", self.settings())?;
        writeln!(out, "Into {}\n", self.secrets().join("\nInto "))?;
        writeln!(out, "To change its scheme: posthouse providers {} --inline", self.name)?;
        Ok(())
    }

    /// Labels and values, what is not known left out.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let Preset { scheme, delivery, event, verified, documentation, registration, .. } = &self.preset;
        let places = event.id.as_ref().map(ToString::to_string).or_else(|| scheme.id().map(ToString::to_string));
        let id = match places {
            Some(places) if event.is_id_optional() => format!("{places}, or else what was signed"),
            Some(places) => places,
            None => "what was signed".to_owned(),
        };
        let facts = [
            ("algorithm", Some(algorithms(scheme))),
            ("known from", Some(known(*verified).to_owned())),
            ("event id", Some(id)),
            ("event type", event.event_type.as_ref().map(ToString::to_string)),
            ("deadline", delivery.deadline_seconds.map(|seconds| format!("{seconds} s"))),
            ("retries", delivery.retries.clone()),
            (
                "retry's time",
                delivery.retry_time.map(|time| match time {
                    RetryTime::Anew => "signed anew".to_owned(),
                    RetryTime::Kept => "that of the first attempt".to_owned(),
                }),
            ),
            ("URL check", Some(registration.check.words().to_owned())),
            ("answer", delivery.answer.clone()),
            ("read", Some(documentation.clone())),
        ];
        facts.into_iter().filter_map(|(label, value)| Some((label, value?))).collect()
    }

    /// The source to paste.
    pub(crate) fn settings(&self) -> String {
        let name = self.name;
        let mut lines =
            vec![format!("[sources.{name}]"), format!("scheme = \"{name}\""), format!("secret = \"{}\"", self.secret_name())];
        if self.needs_handshake_secret() {
            lines.push(format!("handshake_secret = \"{name}-handshake\""));
        }
        if self.preset.scheme.signs_url() {
            lines.push(format!("public_url = \"{URL_TO_FILL_IN}{name}\"    # as registered with the provider: it is signed"));
        }
        lines.join("\n") + "\n"
    }

    /// What goes into which secret.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let secret = self.secret_name();
        let form = match self.preset.scheme.alternatives.first() {
            _ if self.enrols() => "the handshake brings the secret while enrolment is open".to_owned(),
            Some(alternative) => advice::secret_form(alternative),
            None => String::new(),
        };
        let mut secrets = vec![format!("`<stack>/source/{secret}`: {form}")];
        if self.needs_handshake_secret() {
            secrets.push(format!("`<stack>/source/{}-handshake`: the word that the provider's handshake must show", self.name));
        }
        secrets
    }

    fn secret_name(&self) -> String {
        format!("{}{}", self.name, if self.enrols() { ENROLLED_SUFFIX } else { "" })
    }

    fn enrols(&self) -> bool {
        self.preset.handshakes.iter().any(|handshake| handshake.enrol.is_some())
    }

    fn needs_handshake_secret(&self) -> bool {
        self.preset.handshakes.iter().any(Handshake::needs_handshake_secret)
    }

    /// The preset's own text as a scheme and a source of the configuration, which mean the same.
    pub(crate) fn inline(&self) -> String {
        let mut scheme = Vec::new();
        let mut source = vec![self.settings().trim_end().to_owned()];
        // Parts of a preset stand apart by blank lines.
        for part in self.text.split("\n\n").map(str::trim_end) {
            match part.lines().find(|line| line.starts_with('[')) {
                None => source.extend(settings_of(part)),
                Some(header) if header.trim_start_matches('[').starts_with("scheme") => {
                    scheme.push(part.replacen("[scheme", &format!("[schemes.{}", self.name), 1));
                }
                Some("[delivery]" | "[registration]") => {}
                Some(_) => {
                    source.push(String::new());
                    source.push(renamed(part, &format!("sources.{}.", self.name)));
                }
            }
        }
        format!("{}\n\n{}\n", scheme.join("\n\n"), source.join("\n"))
    }
}

/// The settings of a preset's first part that a source has as well, each with all its lines.
fn settings_of(part: &str) -> Vec<String> {
    let mut kept = false;
    let mut lines = Vec::new();
    for line in part.lines() {
        if line.starts_with(|first: char| first.is_ascii_lowercase()) {
            kept = ["methods ", "keep_headers ", "dedupe_days ", "types_per_content ", "on_conflict "]
                .iter()
                .any(|key| line.starts_with(key));
        }
        if kept && !line.starts_with('#') {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// With `prefix` before the names of tables.
fn renamed(part: &str, prefix: &str) -> String {
    let lines = part.lines().map(|line| {
        let brackets = line.len() - line.trim_start_matches('[').len();
        // A list's own bracket does not begin a line with a name behind it.
        if brackets == 0 { line.to_owned() } else { format!("{}{prefix}{}", &line[..brackets], &line[brackets..]) }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The algorithms of a scheme, strongest first, each once.
pub(crate) fn algorithms(scheme: &Scheme) -> String {
    let mut names: Vec<&str> = Vec::new();
    for alternative in &scheme.alternatives {
        let name = algorithm_name(alternative.algorithm);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// As it is written in a configuration.
pub(crate) const fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HmacMd5 => "hmac-md5",
        Algorithm::HmacSha1 => "hmac-sha1",
        Algorithm::HmacSha256 => "hmac-sha256",
        Algorithm::HmacSha384 => "hmac-sha384",
        Algorithm::HmacSha512 => "hmac-sha512",
        Algorithm::Sha1 => "sha1",
        Algorithm::Sha256 => "sha256",
        Algorithm::Sha384 => "sha384",
        Algorithm::Sha512 => "sha512",
        Algorithm::Ed25519 => "ed25519",
        Algorithm::EcdsaP256Sha1 => "ecdsa-p256-sha1",
        Algorithm::EcdsaP256Sha256 => "ecdsa-p256-sha256",
        Algorithm::EcdsaP256Sha512 => "ecdsa-p256-sha512",
        Algorithm::EcdsaP384Sha384 => "ecdsa-p384-sha384",
        Algorithm::RsaSha1 => "rsa-sha1",
        Algorithm::RsaSha256 => "rsa-sha256",
        Algorithm::RsaSha512 => "rsa-sha512",
        Algorithm::RsaPssSha256 => "rsa-pss-sha256",
        Algorithm::RsaPssSha512 => "rsa-pss-sha512",
        Algorithm::Jwt => "jwt",
        Algorithm::JwsDetached => "jws-detached",
        Algorithm::Token => "token",
        Algorithm::Basic => "basic",
    }
}

/// How well a scheme is known, for who has to rely on it.
const fn known(verified: Known) -> &'static str {
    match verified {
        Known::Memory => "unconfirmed: try it before you rely on it",
        known => known.words(),
    }
}

#[cfg(test)]
mod tests {
    use shared::{config::Gateway, names::SourceName};

    use super::*;

    fn source(text: &str, name: &str) -> String {
        let gateway = Gateway::parse(text, name).unwrap_or_else(|error| panic!("{error}\n{text}"));
        format!("{:?}", gateway.sources[&SourceName::parse(name).unwrap()])
    }

    #[test]
    fn settings_and_inline_schemes_can_be_pasted_and_mean_the_same() {
        for provider in Provider::all() {
            let provider = provider.unwrap();
            let settings = source(&provider.settings(), provider.name);
            let inline = provider.inline();
            assert!(inline.contains(&format!("[schemes.{}", provider.name)) || inline.contains("first_of"), "{inline}");
            assert_eq!(source(&inline, provider.name), settings, "{inline}");
        }
    }

    #[test]
    fn the_page_is_what_the_command_prints() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/providers.md");
        let mut page = Vec::new();
        page::write(&mut page).unwrap();
        let same = std::fs::read(path).is_ok_and(|text| text == page);
        assert!(same, "docs/providers.md is out of date; write it with: posthouse providers --markdown > docs/providers.md");
    }
}
