//! `posthouse send`: a sample, signed as its provider would, and sent.

use std::{borrow::Cow, io::Write, time::Duration};

use http::{HeaderValue, Method, header::CONTENT_TYPE};
use reqwest::{Client, redirect::Policy};
use shared::{
    door::Keys,
    location::{Location, Locations, Places},
    secrets::Keyring,
    signatures::{SignError, UnverifiedWebhook},
    time::Timestamp,
};

use crate::{
    Outcome, Stop, Surroundings, advice,
    args::SendArgs,
    files,
    judgement::{Case, Judged},
    subject::{Catalogue, Subject},
    verify::printable,
};

/// Longest time for the whole exchange, in seconds: API Gateway gives up after 30.
const EXCHANGE_SECONDS_MAX: u64 = 35;
/// How much of an answer is shown, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Samples whose names do not end in the type as the provider writes it.
const TYPES: [(&str, &str); 1] = [("shopify-orders-create", "orders/create")];

const NO_SECRET: &str = "there is no secret to sign with: set POSTHOUSE_SECRET or give --secret-file";

/// Signs and sends, or prints what would be sent.
pub(crate) async fn run(args: &SendArgs, mut surroundings: Surroundings, out: &mut impl Write) -> Result<Outcome, Stop> {
    let subject = Catalogue::load(args.config.as_deref())?.subject(&args.source).map_err(Stop::Asked)?;
    if is_asymmetric(&subject) {
        return Err(unsigned(&subject, &SignError::Asymmetric));
    }
    let keyring = files::keyring(args.secret_file.as_deref(), surroundings.secret.as_ref())?;
    let keyring = keyring.ok_or_else(|| Stop::Asked(NO_SECRET.to_owned()))?;
    let body = files::read(&args.event, &mut surroundings)?;
    let public_url = subject.registered_url();
    let to = args.url.as_deref().or(public_url.as_deref());
    let to = to.ok_or_else(|| {
        Stop::Asked(format!("where to? give --url, as https://…/v1/webhooks/{}, or set the source's `public_url`", subject.name))
    })?;
    // The URL that is registered is signed, wherever this sample goes.
    let registered = public_url.as_deref().unwrap_or(to);
    let registered = with_query(registered, to.split_once('?').map(|(_, query)| query));
    let mut webhook = UnverifiedWebhook::new(method(&subject), &registered, &args.headers, body);
    dress(&mut webhook, args, &subject, &surroundings.fresh_id);
    subject.source.scheme.sign(&mut webhook, &keyring, surroundings.now).map_err(|error| unsigned(&subject, &error))?;
    if args.dry_run {
        print(out, &webhook)?;
        return Ok(Outcome::Yes);
    }
    foretell(out, &subject, &webhook, &keyring, surroundings.now)?;
    send(out, webhook, to).await
}

/// Says what the receiver will make of a sample, if its configuration is this one.
fn foretell(
    out: &mut impl Write,
    subject: &Subject,
    webhook: &UnverifiedWebhook,
    keyring: &Keyring,
    now: Timestamp,
) -> Result<(), Stop> {
    let keys = Keys { keyring, handshake_keyring: None, fetched: None };
    let case = Case { source: &subject.source, webhook, keys, now };
    let judged = Judged::of(&subject.source, &case.verdict());
    if judged.events.is_empty() {
        writeln!(out, "no event: {}", printable(&judged.headline))?;
    }
    for (event_id, event_type) in &judged.events {
        writeln!(out, "event id {event_id}, type {event_type}")?;
    }
    Ok(())
}

/// A URL with this query, unless it has one itself.
fn with_query<'u>(url: &'u str, query: Option<&str>) -> Cow<'u, str> {
    match query {
        Some(query) if !url.contains('?') => Cow::Owned(format!("{url}?{query}")),
        _ => Cow::Borrowed(url),
    }
}

fn method(subject: &Subject) -> Method {
    let posts = subject.source.methods.contains(&Method::POST);
    subject.source.methods.first().filter(|_| !posts).cloned().unwrap_or(Method::POST)
}

/// Whether nobody but the provider can sign.
fn is_asymmetric(subject: &Subject) -> bool {
    subject.source.scheme.alternatives.iter().all(|alternative| !alternative.is_symmetric())
}

fn unsigned(subject: &Subject, error: &SignError) -> Stop {
    let hint = match error {
        SignError::UnusableKey => subject.source.scheme.alternatives.first().map(advice::secret_form),
        _ => None,
    };
    let hint = hint.map_or_else(String::new, |form| format!("; {form}"));
    Stop::Asked(format!("`{}`: {error}{hint}", subject.name))
}

/// Puts on what a sample lacks: content type, type and id.
fn dress(webhook: &mut UnverifiedWebhook, args: &SendArgs, subject: &Subject, fresh_id: &str) {
    let content_type = args.content_type.as_deref().unwrap_or_else(|| content_type(&webhook.body));
    if let Ok(value) = HeaderValue::from_str(content_type)
        && (args.content_type.is_some() || !webhook.headers.contains_key(CONTENT_TYPE))
    {
        webhook.headers.insert(CONTENT_TYPE, value);
    }
    if let Some(place) = subject.source.event.event_type.iter().flat_map(Locations::iter).next() {
        // The standard input has no name.
        let named = Some(&args.event).filter(|path| path.as_os_str() != "-");
        let stem = named.and_then(|path| path.file_stem()).map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        put_if_absent(webhook, place, &event_type(&stem, &args.source));
    }
    for place in subject.source.event.id.iter().flat_map(|id| id.alternatives().take(1)).flat_map(Locations::iter) {
        put_if_absent(webhook, place, fresh_id);
    }
}

fn content_type(body: &[u8]) -> &'static str {
    let text = std::str::from_utf8(body);
    match (serde_json::from_slice::<serde_json::Value>(body), text) {
        (Ok(_), _) => "application/json",
        (Err(_), Ok(text)) if text.contains('=') && !text.contains([' ', '\n', '<']) => "application/x-www-form-urlencoded",
        (Err(_), Ok(_)) => "text/plain",
        (Err(_), Err(_)) => "application/octet-stream",
    }
}

/// What stands behind the source in the sample's name: `push` of `github-push`. Of another name, all of it.
fn event_type(stem: &str, source: &str) -> String {
    if let Some((_, known)) = TYPES.iter().find(|(sample, _)| *sample == stem) {
        return (*known).to_owned();
    }
    let rest = stem.strip_prefix(source).and_then(|rest| rest.strip_prefix('-')).unwrap_or(stem);
    rest.replace(|character: char| !character.is_ascii_graphic(), "")
}

/// In the head of the request alone: the body is sent as it is.
fn put_if_absent(webhook: &mut UnverifiedWebhook, place: &Location, value: &str) {
    if value.is_empty() || Places::new(webhook).find(place).is_some() {
        return;
    }
    match place {
        Location::Header(name) => {
            if let Ok(value) = HeaderValue::from_str(value) {
                webhook.headers.insert(name.clone(), value);
            }
        }
        Location::Query(name) => {
            let joint = if webhook.raw_query.is_empty() { "" } else { "&" };
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            webhook.raw_query.push_str(&format!("{joint}{}={}", encoded(name), encoded(value)));
        }
        Location::Form(_)
        | Location::Json(_)
        | Location::Signature(_)
        | Location::Claim(_)
        | Location::Raw(_)
        | Location::Multipart(_)
        | Location::Within(..)
        | Location::Body => {}
    }
}

/// The request as `posthouse verify --request` reads it. A URL that its Host header cannot tell stands whole in the first line.
fn print(out: &mut impl Write, webhook: &UnverifiedWebhook) -> Result<(), Stop> {
    let url = webhook.full_url();
    let rest = url.strip_prefix("https://").filter(|rest| !rest.split('/').next().unwrap_or_default().contains('@'));
    let (host, target) = match rest {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, target) = rest.split_at(end);
            (Some(host), if target.starts_with('/') { target.to_owned() } else { format!("/{target}") })
        }
        None => (None, url.to_string()),
    };
    // A URL without a path is signed without one: it has to stand whole.
    let whole = rest.is_some_and(|rest| !rest.contains('/'));
    write!(out, "{} {} HTTP/1.1\r\n", webhook.method, if whole { &url } else { target.as_str() })?;
    if let Some(host) = host {
        write!(out, "host: {host}\r\n")?;
    }
    for (name, value) in &webhook.headers {
        write!(out, "{name}: ")?;
        out.write_all(value.as_bytes())?;
        write!(out, "\r\n")?;
    }
    write!(out, "content-length: {}\r\n\r\n", webhook.body.len())?;
    out.write_all(&webhook.body)?;
    Ok(())
}

async fn send(out: &mut impl Write, webhook: UnverifiedWebhook, to: &str) -> Result<Outcome, Stop> {
    // Refused only if a provider is installed already, which is as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .timeout(Duration::from_secs(EXCHANGE_SECONDS_MAX))
        .user_agent(concat!("posthouse/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Stop::Asked(format!("no HTTP client can be made: {error}")))?;
    // Signing may have put something into the query.
    let to = to.split('?').next().unwrap_or_default();
    let query = Some(webhook.raw_query.as_str()).filter(|query| !query.is_empty());
    let request = client.request(webhook.method, &*with_query(to, query)).headers(webhook.headers).body(webhook.body);
    match request.send().await {
        Ok(response) => show(out, response).await,
        Err(error) if error.is_builder() => {
            Err(Stop::Asked("the URL cannot be read; write it like https://example.com/path".to_owned()))
        }
        Err(error) => {
            writeln!(out, "not sent: {}", why(error))?;
            Ok(Outcome::No)
        }
    }
}

async fn show(out: &mut impl Write, mut response: reqwest::Response) -> Result<Outcome, Stop> {
    let status = response.status();
    writeln!(out, "{status}")?;
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES_MAX {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            // The status has been said: a body that ends early changes nothing.
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(ANSWER_BYTES_MAX);
    let text = String::from_utf8_lossy(&body);
    let shown: String = text.chars().filter(|character| *character == '\n' || !character.is_control()).collect();
    if !shown.is_empty() {
        writeln!(out, "{}", shown.trim_end())?;
    }
    Ok(status.is_success().into())
}

/// What failed and its first cause, without the URL, in which a signature may stand.
fn why(error: reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the exchange failed"
    };
    let causes = std::iter::successors(std::error::Error::source(&error), |error| error.source());
    causes.last().map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}
