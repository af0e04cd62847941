//! `statuses`: what a destination's statuses mean, where that is not the usual.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use crate::config::check::Fault;

/// What an answer means for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    /// It arrived.
    Done,
    /// It may work the next time.
    Transient,
    /// The destination asks to be left alone for a while.
    Throttled,
    /// It will never work.
    Permanent,
    /// The destination does not accept our credentials.
    Auth,
    /// The destination has something that this event contradicts.
    Conflict,
}

/// Statuses with a meaning of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses {
    exact: BTreeMap<u16, Meaning>,
    /// By the first digit.
    classes: BTreeMap<u16, Meaning>,
}

impl Statuses {
    /// What this status means, if it is not the usual: the status itself goes before its class.
    pub fn meaning(&self, status: u16) -> Option<Meaning> {
        self.exact.get(&status).or_else(|| self.classes.get(&(status / 100))).copied()
    }
}

pub(super) fn check(entries: Option<Spanned<BTreeMap<Spanned<String>, Spanned<Meaning>>>>) -> Result<Statuses, Fault> {
    let mut statuses = Statuses::default();
    for (status, meaning) in entries.map(Spanned::into_inner).unwrap_or_default() {
        let meaning = meaning.into_inner();
        match status.get_ref().as_bytes() {
            [class @ b'2'..=b'5', b'x', b'x'] => statuses.classes.insert(u16::from(class - b'0'), meaning),
            [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] => {
                let exact = status.get_ref().parse().map_err(|_| nonsense(&status))?;
                statuses.exact.insert(exact, meaning)
            }
            _ => return Err(nonsense(&status)),
        };
    }
    Ok(statuses)
}

fn nonsense(status: &Spanned<String>) -> Fault {
    let message = format!("`{}` is no status; write one from 200 to 599, or all of a hundred as 5xx", status.get_ref());
    Fault::new(status.span(), message)
}
