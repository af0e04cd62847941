//! The URLs that a provider may have signed for the one that was called.

use super::{UnverifiedWebhook, scheme::UrlForm};

/// What HubSpot decodes in the URL that it signs with version 3
/// (<https://developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests>).
const DECODED: [(&str, &str); 11] = [
    ("%3A", ":"),
    ("%2F", "/"),
    ("%3F", "?"),
    ("%40", "@"),
    ("%21", "!"),
    ("%24", "$"),
    ("%27", "'"),
    ("%28", "("),
    ("%29", ")"),
    ("%2A", "*"),
    ("%2C", ","),
];

/// The URLs to try, at least one and at most four.
pub(super) fn forms(form: UrlForm, webhook: &UnverifiedWebhook) -> Vec<String> {
    let url = webhook.full_url().into_owned();
    match form {
        UrlForm::WithQuery => vec![url],
        UrlForm::WithoutQuery => vec![webhook.url.clone()],
        UrlForm::Decoded => {
            let decoded =
                DECODED.iter().chain(&[("%3B", ";")]).fold(url.clone(), |text, (escaped, plain)| text.replace(escaped, plain));
            if decoded == url { vec![url] } else { vec![url, decoded] }
        }
        UrlForm::AnyPort => {
            let mut urls = vec![url.clone()];
            urls.extend(other_port(&url));
            // The WHATWG URL standard escapes the apostrophe in queries, and so do Twilio's senders.
            let escaped: Vec<String> = urls.iter().filter(|url| url.contains('\'')).map(|url| url.replace('\'', "%27")).collect();
            urls.extend(escaped);
            urls
        }
    }
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

    fn forms_of(form: UrlForm, url: &str) -> Vec<String> {
        forms(form, &UnverifiedWebhook::new(Method::POST, url, &[], Vec::new()))
    }

    #[test]
    fn each_form_names_its_urls() {
        assert_eq!(forms_of(UrlForm::WithQuery, "https://h/p?a=1"), ["https://h/p?a=1"]);
        assert_eq!(forms_of(UrlForm::WithoutQuery, "https://h/p?a=1"), ["https://h/p"]);
        assert_eq!(forms_of(UrlForm::Decoded, "https://h/p?a=%2Cb%20"), ["https://h/p?a=%2Cb%20", "https://h/p?a=,b%20"]);
        assert_eq!(forms_of(UrlForm::Decoded, "https://h/p"), ["https://h/p"]);
    }

    #[test]
    fn ports_are_taken_away_or_added() {
        let other = |url: &str| forms_of(UrlForm::AnyPort, url).pop().unwrap();
        assert_eq!(other("https://h/p?a=1"), "https://h:443/p?a=1");
        assert_eq!(other("http://h"), "http://h:80");
        assert_eq!(other("https://u:p@h:1234/p"), "https://u:p@h/p");
        assert_eq!(other("https://[::1]:8443/p"), "https://[::1]/p");
        assert_eq!(forms_of(UrlForm::AnyPort, "https://h/?a='").len(), 4);
        assert_eq!(forms_of(UrlForm::AnyPort, "no url"), ["no url"]);
    }
}
