//! The URLs that a provider may have signed for the one that was called.
//!
//! A provider's signer and its HTTP client may write one URL in two ways: with and without the default port, with other characters
//! percent-encoded, with the query in another order. Each way is a candidate with a name; all candidates of a URL say the same.

use std::borrow::Cow;

use super::{UnverifiedWebhook, scheme::UrlForm};

/// Most URLs that are tried for one request: two ports, two orders of the query, six ways to escape it.
pub const URL_CANDIDATES_MAX: usize = 2 * 2 * 6;

/// Characters that a query may have as they are or percent-encoded, without another meaning (RFC 3986, section 3.4; `&`, `=` and `+`
/// have one in a form). Signers for Twilio leave some of them as they are, and its senders encode them.
const FREE: [char; 12] = ['!', '$', '\'', '(', ')', '*', ',', ';', ':', '@', '/', '?'];
/// Those that Twilio's signers are known to leave as they are
/// (<https://github.com/twilio/twilio-node/pull/621>, <https://github.com/twilio/twilio-node/issues/1183>).
const TWILIO_RAW: [char; 3] = ['@', ':', '\''];

/// One URL that may have been signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) url: String,
    /// How it differs from the URL as it was received; empty if it does not.
    pub(super) differs: String,
}

/// The URLs to try: at least one, the one as it was received first, and at most [`URL_CANDIDATES_MAX`], each once.
pub(super) fn candidates(form: UrlForm, webhook: &UnverifiedWebhook) -> Vec<Candidate> {
    if form == UrlForm::WithoutQuery {
        return vec![Candidate { url: webhook.url.clone(), differs: String::new() }];
    }
    let mut bases = vec![(Cow::Borrowed(webhook.url.as_str()), "")];
    if form == UrlForm::AnyPort {
        bases.extend(other_port(&webhook.url).map(|url| (Cow::Owned(url), "with or without its port")));
    }
    let mut queries = vec![(Cow::Borrowed(webhook.raw_query.as_str()), "")];
    queries.extend(registered_order(webhook).map(|query| (Cow::Owned(query), "with the query as it is registered")));
    let mut candidates: Vec<Candidate> = Vec::new();
    for (base, port) in &bases {
        for (query, order) in &queries {
            for (url, escapes) in written(form, base, query) {
                if candidates.iter().all(|known| known.url != url) {
                    let words: Vec<&str> = [*port, *order, escapes].into_iter().filter(|words| !words.is_empty()).collect();
                    candidates.push(Candidate { url, differs: words.join(", ") });
                }
            }
        }
    }
    debug_assert!(candidates.len() <= URL_CANDIDATES_MAX, "{}", candidates.len());
    candidates
}

/// One text for all URLs that have a candidate in common, so that a request that is sent again in another spelling is known.
pub(super) fn canonical(form: UrlForm, webhook: &UnverifiedWebhook) -> String {
    let query = registered_order(webhook).map_or(Cow::Borrowed(webhook.raw_query.as_str()), Cow::Owned);
    match form {
        UrlForm::WithoutQuery => webhook.url.clone(),
        UrlForm::WithQuery => joined(&webhook.url, &query),
        UrlForm::AnyPort => joined(&webhook.url, &unescaped(&query, &FREE)),
        UrlForm::Decoded => in_upper_case(&unescaped(&joined(&webhook.url, &query), &FREE)),
    }
}

/// The ways in which a form writes a URL.
fn written(form: UrlForm, base: &str, query: &str) -> Vec<(String, &'static str)> {
    match form {
        UrlForm::WithoutQuery => vec![(base.to_owned(), "")],
        UrlForm::WithQuery => vec![(joined(base, query), "")],
        UrlForm::Decoded => {
            let url = joined(base, query);
            let decoded = (unescaped(&url, &FREE), "with the escapes undone that HubSpot undoes");
            let upper = (in_upper_case(&url), "with its escapes in upper case");
            vec![(url, ""), decoded, upper]
        }
        UrlForm::AnyPort => {
            let plain = unescaped(query, &TWILIO_RAW);
            let all_plain = unescaped(query, &FREE);
            let ways = [
                (Cow::Borrowed(query), ""),
                (Cow::Owned(escaped(query, &['\''])), "with `'` as %27"),
                (Cow::Owned(escaped(&plain, &['\''])), "with `@` and `:` as they are"),
                (Cow::Owned(plain), "with `@`, `:` and `'` as they are"),
                (Cow::Owned(escaped(query, &FREE)), "with every character escaped that may be"),
                (Cow::Owned(all_plain), "with no character escaped that need not be"),
            ];
            ways.map(|(query, words)| (joined(base, &query), words)).into()
        }
    }
}

fn joined(base: &str, query: &str) -> String {
    if query.is_empty() { base.to_owned() } else { format!("{base}?{query}") }
}

/// With these characters as they are, whatever the case of their escapes.
fn unescaped(text: &str, characters: &[char]) -> String {
    rewritten(text, |digits| {
        let byte = u8::from_str_radix(digits, 16).ok()?;
        characters.contains(&char::from(byte)).then(|| char::from(byte).to_string())
    })
}

/// With all escapes in upper case.
fn in_upper_case(text: &str) -> String {
    rewritten(text, |digits| Some(format!("%{}", digits.to_ascii_uppercase())))
}

fn escaped(text: &str, characters: &[char]) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match characters.contains(&character) {
            true => escaped.push_str(&format!("%{:02X}", u32::from(character))),
            false => escaped.push(character),
        }
        escaped
    })
}

/// With other text in the place of escapes; `None` leaves one as it is.
fn rewritten(text: &str, write: impl Fn(&str) -> Option<String>) -> String {
    let mut pieces = text.split('%');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(&write) {
            Some(text) => {
                out.push_str(&text);
                out.push_str(&piece[2..]);
            }
            None => {
                out.push('%');
                out.push_str(piece);
            }
        }
    }
    out
}

/// The query in the order in which it is registered, what is not registered after it: some senders sort the parameters after they
/// have signed. `None` if nothing is registered, or not all of it was received.
fn registered_order(webhook: &UnverifiedWebhook) -> Option<String> {
    let registered = webhook.registered_query.as_deref().filter(|query| !query.is_empty())?;
    let mut others: Vec<&str> = webhook.raw_query.split('&').collect();
    for pair in registered.split('&') {
        let at = others.iter().position(|other| other == &pair)?;
        others.remove(at);
    }
    let mut query = registered.to_owned();
    for pair in others {
        query.push('&');
        query.push_str(pair);
    }
    (query != webhook.raw_query).then_some(query)
}

/// The URL without its port, or with the default one if it has none.
fn other_port(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    let host = match host.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_owned(),
        _ => format!("{host}:{}", if scheme == "http" { 80 } else { 443 }),
    };
    Some(format!("{scheme}://{user}{host}{rest}"))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn webhook(url: &str, registered_query: Option<&str>) -> UnverifiedWebhook {
        let registered_query = registered_query.map(str::to_owned);
        UnverifiedWebhook { registered_query, ..UnverifiedWebhook::new(Method::POST, url, &[], Vec::new()) }
    }

    fn urls(form: UrlForm, url: &str) -> Vec<String> {
        candidates(form, &webhook(url, None)).into_iter().map(|candidate| candidate.url).collect()
    }

    #[test]
    fn each_form_names_its_urls() {
        assert_eq!(urls(UrlForm::WithQuery, "https://h/p?a=1"), ["https://h/p?a=1"]);
        assert_eq!(urls(UrlForm::WithoutQuery, "https://h/p?a=1"), ["https://h/p"]);
        assert_eq!(urls(UrlForm::Decoded, "https://h/p?a=%2Cb%20"), ["https://h/p?a=%2Cb%20", "https://h/p?a=,b%20"]);
        let lower = ["https://h/p?a=%3ab%c3%a9", "https://h/p?a=:b%c3%a9", "https://h/p?a=%3Ab%C3%A9"];
        assert_eq!(urls(UrlForm::Decoded, lower[0]), lower);
        assert_eq!(urls(UrlForm::Decoded, "https://h/p"), ["https://h/p"]);
    }

    #[test]
    fn ports_are_taken_away_or_added() {
        let other = |url: &str| urls(UrlForm::AnyPort, url).pop().unwrap();
        assert_eq!(other("https://h/p?a=1"), "https://h:443/p?a=1");
        assert_eq!(other("http://h"), "http://h:80");
        assert_eq!(other("https://u:p@h:1234/p"), "https://u:p@h/p");
        assert_eq!(other("https://[::1]:8443/p"), "https://[::1]/p");
        assert_eq!(urls(UrlForm::AnyPort, "no url"), ["no url"]);
    }

    #[test]
    fn a_signer_may_have_escaped_less_or_more_than_the_sender() {
        let has = |received: &str, signed: &str| urls(UrlForm::AnyPort, received).contains(&signed.to_owned());
        assert!(has("https://h/?c=sip%3A100%40h&n=1", "https://h/?c=sip:100@h&n=1"));
        assert!(has("https://h/?c=sip%3a100%40h", "https://h/?c=sip:100@h"));
        assert!(has("https://h/?c=Forli%27", "https://h:443/?c=Forli'"));
        assert!(has("https://h/?c=Forli'", "https://h/?c=Forli%27"));
        assert!(has("https://h/?c=sip%3A1%40h&d='", "https://h/?c=sip:1@h&d=%27"));
        assert!(has("https://h/?c=(1),2", "https://h/?c=%281%29%2C2"));
        assert!(has("https://h/?c=%281%29%2C2%3B", "https://h/?c=(1),2;"));
        for changed in ["https://h/?c=1&d=2", "https://h/?c=1+d", "https://h/?c%3D1", "https://h/?c=1%20d"] {
            assert!(!has("https://h/?c=1%26d%3D2", changed) && !has("https://h/?c=1%2Bd", changed), "{changed}");
        }
    }

    #[test]
    fn a_registered_query_is_tried_in_its_own_order() {
        let found = |received: &str, registered: &str| {
            let candidates = candidates(UrlForm::WithQuery, &webhook(&format!("https://h/?{received}"), Some(registered)));
            candidates.into_iter().map(|candidate| (candidate.url, candidate.differs)).nth(1)
        };
        let named = |url: &str| Some((url.to_owned(), "with the query as it is registered".to_owned()));
        assert_eq!(found("a=1&b=2", "b=2&a=1"), named("https://h/?b=2&a=1"));
        assert_eq!(found("a=1&b=2&c=3", "b=2"), named("https://h/?b=2&a=1&c=3"));
        assert_eq!(found("a=1&b=2", "a=1&b=2"), None, "it is there already");
        assert_eq!(found("a=1", "b=2&a=1"), None, "not all of it was received");
        assert_eq!(found("b=2&b=2", "b=2&b=2&b=2"), None);
    }

    #[test]
    fn candidates_are_bounded_named_and_have_one_canonical_text() {
        let received = webhook("https://h/?a='%27&b=@:%40%3a,%2c&c=1", Some("c=1"));
        let all = candidates(UrlForm::AnyPort, &received);
        assert_eq!(all.len(), URL_CANDIDATES_MAX);
        assert!(all[0].differs.is_empty() && all[1..].iter().all(|candidate| !candidate.differs.is_empty()));
        for form in [UrlForm::AnyPort, UrlForm::Decoded, UrlForm::WithQuery] {
            let wanted = canonical(form, &received);
            for candidate in candidates(form, &received).into_iter().filter(|candidate| !candidate.differs.contains("port")) {
                let again = webhook(&candidate.url, Some("c=1"));
                assert_eq!(canonical(form, &again), wanted, "{candidate:?}");
            }
        }
    }
}
