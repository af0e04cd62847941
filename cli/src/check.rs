//! `posthouse check`: whether a configuration can be used, and what in it is doubtful.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use reqwest::Url;
use shared::{
    config::{Auth, DestinationKind, Gateway, HttpDestination, Source},
    names::DestinationName,
    networks,
    routing::Routing,
    signatures::{Algorithm, Scheme, outgoing::SigningKey},
};

use crate::{
    Outcome, Stop, Surroundings,
    args::CheckArgs,
    files,
    providers::algorithm_name,
    samples::{self, Sample},
};

/// Says that the file is right, with what is doubtful, or what is wrong and where. Then what becomes of each sample.
pub(crate) fn run(args: &CheckArgs, mut surroundings: Surroundings, out: &mut impl Write) -> Result<Outcome, Stop> {
    let loaded = Gateway::load(&args.file).and_then(|gateway| Ok((Routing::load(&gateway, &args.file)?, gateway)));
    let (routing, gateway) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(Outcome::No);
        }
    };
    let file = args.file.display();
    for warning in warnings(&gateway) {
        writeln!(out, "{file}: warning: {warning}")?;
    }
    let routes = gateway.sources.values().map(|source| source.routes.len()).sum();
    let counted =
        [counted(gateway.sources.len(), "source"), counted(gateway.destinations.len(), "destination"), counted(routes, "route")];
    writeln!(out, "{file}: {}: ok", counted.join(", "))?;
    let mut outcome = Outcome::Yes;
    for (source, path) in &args.samples {
        let name = format!("{source}={}", path.display());
        let source = gateway.sources.get(source).ok_or_else(|| Stop::Asked(format!("{file} has no source `{source}`")))?;
        let sample = Sample { name, source, bytes: files::read(path, &mut surroundings)? };
        if samples::tell(sample, args, &routing, surroundings.now, out)? == Outcome::No {
            outcome = Outcome::No;
        }
    }
    Ok(outcome)
}

/// As `2 sources`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn warnings(gateway: &Gateway) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, scheme) in &gateway.schemes {
        let used = gateway.sources.values().any(|source| source.scheme == *scheme);
        if !used {
            warnings.push(format!("scheme `{name}`: no source uses it"));
        }
        if scheme.alternatives.iter().any(|alternative| alternative.unsigned_body) {
            warnings.push(format!("scheme `{name}`: the body is not signed: who has seen one webhook can send others"));
        }
        warnings.extend(weak(scheme).map(|words| format!("scheme `{name}`: {words}")));
    }
    for source in gateway.sources.values() {
        warnings.extend(doubts(source, gateway).map(|words| format!("source `{}`: {words}", source.name)));
    }
    let reached: BTreeSet<_> =
        gateway.sources.values().flat_map(|source| &source.routes).map(|route| &route.destination).collect();
    let lonely = gateway.destinations.keys().filter(|name| !reached.contains(name));
    warnings.extend(lonely.map(|name| format!("destination `{name}`: no route leads to it")));
    for (name, destination) in &gateway.destinations {
        if let DestinationKind::Http(http) = &destination.kind {
            warnings.extend(out_of_reach(http).map(|words| format!("destination `{name}`: {words}")));
        }
    }
    warnings.extend(shared_secrets(gateway));
    warnings
}

/// A secret that is shown to several hosts, each of which could then pose as the others: to them as us, or as us to them.
fn shared_secrets(gateway: &Gateway) -> impl Iterator<Item = String> {
    let mut uses: BTreeMap<String, Vec<(&DestinationName, String)>> = BTreeMap::new();
    for (name, destination) in &gateway.destinations {
        let DestinationKind::Http(http) = &destination.kind else { continue };
        let signing = http.signing.as_ref().map(|signing| match &signing.key {
            SigningKey::Own => format!("the keys in `{}` sign for", signing.secret),
            SigningKey::Derived { name } => {
                let kind = signing.version.name();
                format!("the {kind} key derived from `{}` for `{name}` signs for", signing.secret)
            }
        });
        let credential = match &http.auth {
            Some(Auth::Bearer(secret) | Auth::Basic(secret) | Auth::ApiKey { secret, .. }) => {
                Some(format!("the credential in `{secret}` is shown to"))
            }
            // Only the token endpoint sees it.
            Some(Auth::OAuth(_)) | None => None,
        };
        let host = Url::parse(&http.url).ok().and_then(|url| Some(url.host_str()?.to_owned())).unwrap_or_default();
        for used in signing.into_iter().chain(credential) {
            uses.entry(used).or_default().push((name, host.clone()));
        }
    }
    let several = uses.into_iter().filter(|(_, at)| at.iter().any(|(_, host)| *host != at[0].1));
    several.map(|(used, at)| {
        let names: Vec<String> = at.iter().map(|(name, host)| format!("`{name}` ({host})")).collect();
        format!("{used} destinations at several hosts, and each of them could pose as another: {}", names.join(", "))
    })
}

fn doubts(source: &Source, gateway: &Gateway) -> impl Iterator<Item = String> {
    let unrouted = source.routes.is_empty().then(|| "it has no route: its events are recorded and go nowhere".to_owned());
    // A scheme of the file has had its warning.
    let is_own = gateway.schemes.values().any(|scheme| *scheme == source.scheme);
    let weak = if is_own { None } else { weak(&source.scheme) };
    let url = (source.scheme.signs_url() && source.public_url.is_none())
        .then(|| "its provider signs the URL: unless that is API Gateway's own, set `public_url`".to_owned());
    let query = (source.public_query.is_some() && !source.scheme.signs_registered_query())
        .then(|| "the query of its `public_url` is not used: its scheme does not sign it".to_owned());
    unrouted.into_iter().chain(weak).chain(url).chain(query)
}

/// Why the worker will refuse to connect to a destination, as far as its URLs alone tell it.
fn out_of_reach(http: &HttpDestination) -> impl Iterator<Item = String> {
    let token_url = match &http.auth {
        Some(Auth::OAuth(oauth)) => Some(("token_url", oauth.token_url.as_str())),
        _ => None,
    };
    let urls = [("url", http.url.as_str())].into_iter().chain(token_url);
    urls.filter_map(|(what, url)| Some(format!("`{what}`: {}", not_public(url, http)?)))
}

/// Why the host of a URL is out of reach. What a name resolves to is known where it is used; these names are private wherever that is.
fn not_public(url: &str, http: &HttpDestination) -> Option<String> {
    let allowed = &http.connecting.allow_networks;
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    if let Some(address) = networks::literal(host) {
        let meant = networks::come_out(address);
        let bits = if meant.is_ipv4() { 32 } else { 128 };
        return (!networks::is_reached(address, allowed)).then(|| {
            format!(
                "{address} is not public, and the worker will not connect to it; if it is meant, say `allow_networks = [\"{meant}/{bits}\"]`"
            )
        });
    }
    let host = host.trim_end_matches('.');
    let is_or_ends = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let is_out_of_reach = if is_or_ends("localhost") {
        !loopback.iter().any(|address| networks::is_reached(*address, allowed))
    } else {
        ["local", "internal"].into_iter().any(is_or_ends) && allowed.is_empty()
    };
    is_out_of_reach.then(|| {
        format!(
            "the addresses of {host} are not public, and the worker will not connect to them; if it is meant, say with \
             `allow_networks` in which networks it is"
        )
    })
}

/// What a scheme does not prove.
fn weak(scheme: &Scheme) -> Option<String> {
    let plain =
        |algorithm: Algorithm| matches!(algorithm, Algorithm::Sha1 | Algorithm::Sha256 | Algorithm::Sha384 | Algorithm::Sha512);
    let mut algorithms = scheme.alternatives.iter().map(|alternative| alternative.algorithm);
    if let Some(algorithm) = algorithms.clone().find(|algorithm| plain(*algorithm)) {
        let name = algorithm_name(algorithm);
        return Some(format!("{name} is a plain hash over a secret, and no MAC: prefer another way if the provider has one"));
    }
    let is_token = algorithms.any(|algorithm| matches!(algorithm, Algorithm::Token | Algorithm::Basic));
    is_token.then(|| "a token proves who sends, and covers nothing of what is sent".to_owned())
}
