//! The senders of a file, each by itself: for whoever asks of one, a mistake in another does not count.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::{
    ConfigError, Source,
    check::{Fault, check_source},
    file::SourceEntry,
    read,
};
use crate::signatures::Scheme;

/// The schemes and sources of a file, or what is wrong with each. Routes, contracts and destinations are not looked at: a function
/// takes a [`super::Gateway`], which is checked whole.
#[derive(Debug, Default)]
pub struct Senders {
    /// The schemes that it describes itself.
    pub schemes: BTreeMap<String, Result<Scheme, ConfigError>>,
    /// Who may send.
    pub sources: BTreeMap<String, Result<Source, ConfigError>>,
}

impl Senders {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, &path.display().to_string())
    }

    /// Parses a text; `file` is for messages. What is not TOML is an error of the whole.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let root = DeTable::parse(text).map_err(|error| fault(&error).at(file, text))?.into_inner();
        let (mut known, mut senders) = (BTreeMap::new(), Self::default());
        for (name, value) in entries(&root, "schemes").map_err(|fault| fault.at(file, text))? {
            let read = Scheme::deserialize(ValueDeserializer::from(value)).map_err(|error| fault(&error));
            let checked = read.and_then(|scheme| scheme.check().map(|()| scheme).map_err(|error| Fault::new(name.span(), error)));
            let named = |Fault { span, message }| Fault { span, message: format!("scheme `{}`: {message}", name.get_ref()) };
            let scheme = checked.map_err(|fault| named(fault).at(file, text));
            if let Ok(scheme) = &scheme {
                known.insert(name.clone(), scheme.clone());
            }
            senders.schemes.insert(name.into_inner(), scheme);
        }
        for (name, value) in entries(&root, "sources").map_err(|fault| fault.at(file, text))? {
            let entry = SourceEntry::deserialize(ValueDeserializer::from(value));
            let source = match entry.map_err(|error| fault(&error)) {
                Ok(entry) => match senders.schemes.get(entry.scheme.get_ref()) {
                    Some(Err(error)) => Err(error.clone()),
                    _ => check_source(&name, entry, &known).map_err(|fault| fault.at(file, text)),
                },
                Err(fault) => Err(fault.at(file, text)),
            };
            senders.sources.insert(name.into_inner(), source);
        }
        Ok(senders)
    }
}

fn fault(error: &toml::de::Error) -> Fault {
    Fault { span: error.span(), message: error.message().to_owned() }
}

/// A name with what it is the name of.
type Entry<'i> = (Spanned<String>, Spanned<DeValue<'i>>);

/// The entries of a table at the root, none if it is not there.
fn entries<'i>(root: &DeTable<'i>, table: &str) -> Result<Vec<Entry<'i>>, Fault> {
    let Some(value) = root.get(table) else { return Ok(Vec::new()) };
    let DeValue::Table(entries) = value.get_ref() else {
        return Err(Fault::new(value.span(), format!("`{table}` is no table")));
    };
    Ok(entries.iter().map(|(name, value)| (Spanned::new(name.span(), name.get_ref().to_string()), value.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        destinations = 7
        [schemes.good]
        algorithm = "token"
        signature = { at = "header:x-token" }
        [schemes.typo]
        algoritm = "token"
        signature = { at = "header:x-token" }
        [schemes.impossible]
        algorithm = "hmac-sha256"
        signed = "nothing"
        signature = { at = "header:x-s", encoding = "hex" }
        [sources.a]
        scheme = "good"
        secret = "a"
        [sources.b]
        scheme = "typo"
        secret = "b"
        [sources.c]
        scheme = "no-such"
        secret = "c"
        [sources.d]
        scheme = "github"
        secert = "d"
    "#;

    #[test]
    fn a_mistake_in_one_sender_is_no_other_ones() {
        let Senders { schemes, sources } = Senders::parse(FILE, "g.toml").unwrap();
        let told = |error: Option<&ConfigError>| error.map(ToString::to_string).unwrap_or_default();
        let scheme = |name: &str| told(schemes[name].as_ref().err());
        let source = |name: &str| told(sources[name].as_ref().err());
        assert_eq!((scheme("good"), source("a")), (String::new(), String::new()));
        assert!(scheme("typo").starts_with("g.toml:7:9: scheme `typo`: unknown field `algoritm`"), "{}", scheme("typo"));
        assert_eq!(source("b"), scheme("typo"));
        assert!(scheme("impossible").starts_with("g.toml:9:18: scheme `impossible`: "), "{}", scheme("impossible"));
        assert!(source("c").starts_with("g.toml:20:18: there is no scheme `no-such`"), "{}", source("c"));
        assert!(source("d").starts_with("g.toml:24:9: unknown field `secert`"), "{}", source("d"));
    }

    #[test]
    fn what_is_no_toml_is_an_error_of_the_whole() {
        let error = |text: &str| Senders::parse(text, "g.toml").unwrap_err().to_string();
        assert!(error("[sources.a").starts_with("g.toml:1:"), "{}", error("[sources.a"));
        assert_eq!(error("\nschemes = 7"), "g.toml:2:11: `schemes` is no table");
    }
}
