//! What connections to a destination are allowed.

use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use crate::{
    config::{
        check::{Fault, within},
        destination::Settings,
    },
    signatures::public_key::is_certificate,
};

/// How long connecting may take unless the configuration says otherwise, in seconds; or the whole attempt, if that is shorter.
pub const CONNECT_SECONDS_DEFAULT: u64 = 3;
/// Most networks that one destination may be in.
pub const NETWORKS_MAX: usize = 16;
/// Longest certificates of a private authority, in bytes.
pub const CA_BYTES_MAX: usize = 16 * 1024;

/// What connections are allowed. Destinations that allow the same share their connections, and no others do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Connecting {
    /// How long connecting may take.
    pub timeout: Duration,
    /// Networks that are reached although they are not public.
    pub allow_networks: Vec<IpNet>,
    /// Authorities in PEM whose certificates are taken, beside those that everybody takes.
    pub ca: Option<String>,
}

pub(super) fn check(settings: &mut Settings<'_>, timeout: Duration) -> Result<Connecting, Fault> {
    let given = settings.entry.connect_timeout_seconds.take();
    let default = CONNECT_SECONDS_DEFAULT.min(timeout.as_secs());
    let seconds = within(given, default, "connect_timeout_seconds", 1..timeout.as_secs() + 1)?;
    Ok(Connecting {
        timeout: Duration::from_secs(seconds),
        allow_networks: check_networks(settings.entry.allow_networks.take())?,
        ca: settings.entry.ca.take().map(check_ca).transpose()?,
    })
}

fn check_networks(given: Option<Spanned<Vec<Spanned<String>>>>) -> Result<Vec<IpNet>, Fault> {
    let Some(given) = given else { return Ok(Vec::new()) };
    if given.get_ref().len() > NETWORKS_MAX {
        return Err(Fault::new(given.span(), format!("there are more than {NETWORKS_MAX} `allow_networks`")));
    }
    let networks = given.into_inner().into_iter().map(|text| {
        let network = text.get_ref().parse::<IpNet>().map_err(|_| {
            let message = format!("`{}` is no network; write it like 10.1.0.0/16 or fd00::/8", text.get_ref());
            Fault::new(text.span(), message)
        })?;
        match network.trunc() == network {
            true => Ok(network),
            false => {
                Err(Fault::new(text.span(), format!("`{network}` is an address in a network; is {} meant?", network.trunc())))
            }
        }
    });
    networks.collect()
}

fn check_ca(given: Spanned<String>) -> Result<String, Fault> {
    let fault = |message: &str| Err(Fault::new(given.span(), format!("`ca` {message}")));
    if given.get_ref().len() > CA_BYTES_MAX {
        return fault(&format!("has more than {CA_BYTES_MAX} bytes"));
    }
    let blocks = given.get_ref().split_inclusive("-----END CERTIFICATE-----").filter(|block| !block.trim().is_empty());
    let mut blocks = blocks.peekable();
    match blocks.peek().is_some() && blocks.all(is_certificate) {
        true => Ok(given.into_inner()),
        false => fault("must be X.509 certificates in PEM and nothing else: -----BEGIN CERTIFICATE-----…"),
    }
}
