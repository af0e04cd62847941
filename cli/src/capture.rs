//! A request as it was captured: the head as text, the body as the bytes that they are.

use std::{borrow::Cow, path::Path};

use http::Method;
use shared::{location, signatures::UnverifiedWebhook};

use crate::{
    Stop,
    subject::Subject,
    vector::{HEADERS_MAX, Vector},
};

/// A request that was read from a file.
#[derive(Debug)]
pub(crate) enum Captured {
    /// An HTTP request.
    Http(HttpRequest),
    /// One line of vectors.
    Vector(Box<Vector>),
}

/// A request line, headers and a body.
#[derive(Debug)]
pub(crate) struct HttpRequest {
    method: Method,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Captured {
    /// Reads either form; `file` is for messages.
    pub(crate) fn parse(bytes: &[u8], file: &Path) -> Result<Self, Stop> {
        let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        let parsed = match is_json {
            true => Vector::parse(bytes).map(|vector| Self::Vector(Box::new(vector))),
            false => HttpRequest::parse(bytes).map(Self::Http),
        };
        parsed.map_err(|reason| Stop::Asked(format!("{}: {reason}", file.display())))
    }
}

impl HttpRequest {
    /// Reads a request where it is one by its first line, version and all; `None` if it is something else, as a body is.
    pub(crate) fn recognize(bytes: &[u8]) -> Option<Result<Self, String>> {
        let first = bytes.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty())?;
        let first = String::from_utf8_lossy(first.strip_suffix(b"\r").unwrap_or(first));
        let is_request = first.contains(" HTTP/") && request_line(&first).is_some();
        is_request.then(|| Self::parse(bytes))
    }

    /// Lines of the head may end in CRLF or LF. Messages show no line: it may have a secret.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut lines = Lines { rest: bytes, number: 0 };
        // RFC 9112, section 2.2: a line break before the request line is passed over.
        let first = std::iter::from_fn(|| lines.next()).find(|line| !line.is_empty());
        let first = first.ok_or("is empty; give the whole request, as POST / HTTP/1.1")?;
        let (method, target) = request_line(&first).ok_or_else(|| {
            format!("line {}: this is no request line, as POST /v1/webhooks/github HTTP/1.1, and no JSON object", lines.number)
        })?;
        let mut headers: Vec<(String, String)> = Vec::new();
        loop {
            let line = lines.next().ok_or("has no blank line after its headers: the body would begin there")?;
            if line.is_empty() {
                break;
            }
            if headers.len() >= HEADERS_MAX {
                return Err(format!("has more than {HEADERS_MAX} headers"));
            }
            match headers.last_mut() {
                // An old way to write long values: RFC 9112, section 5.2.
                Some((_, value)) if line.starts_with([' ', '\t']) => {
                    value.push(' ');
                    value.push_str(line.trim());
                }
                _ => {
                    let (name, value) = line
                        .split_once(':')
                        .filter(|(name, _)| http::HeaderName::try_from(*name).is_ok())
                        .ok_or_else(|| format!("line {}: this is no header, as Content-Type: application/json", lines.number))?;
                    headers.push((name.to_owned(), value.trim().to_owned()));
                }
            }
        }
        Ok(Self { method, target, headers, body: lines.rest.to_vec() })
    }

    /// The webhook, sent to `registered` with the request's own query, or else to the URL that the request has.
    /// `signs_url` makes it an error that there is none.
    pub(crate) fn into_webhook(self, registered: Option<&str>, signs_url: bool) -> Result<UnverifiedWebhook, Stop> {
        let host = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| value);
        let url = match host {
            _ if !self.target.starts_with('/') => Cow::Borrowed(self.target.as_str()),
            Some(host) => Cow::Owned(format!("https://{host}{}", self.target)),
            None if signs_url && registered.is_none() => {
                let message =
                    "the URL is signed, and the request has no Host header: give --url, as registered with the provider";
                return Err(Stop::Asked(message.to_owned()));
            }
            None => Cow::Owned(format!("https://localhost{}", self.target)),
        };
        let mut webhook = UnverifiedWebhook::new(self.method, &url, &self.headers, self.body);
        if let Some(registered) = registered {
            register(&mut webhook, registered);
        }
        Ok(webhook)
    }
}

/// Puts the registered URL in the place of the one that was called, as the receiver does: the query stays the request's own.
pub(crate) fn register(webhook: &mut UnverifiedWebhook, registered: &str) {
    let (url, query) = registered.split_once('?').map_or((registered, None), |(url, query)| (url, Some(query)));
    webhook.url = url.to_owned();
    webhook.registered_query = query.map(str::to_owned);
}

fn request_line(line: &str) -> Option<(Method, String)> {
    let mut words = line.split(' ');
    let method = words.next().filter(|word| word.bytes().all(|byte| byte.is_ascii_uppercase()))?;
    let target = words.next().filter(|word| word.starts_with('/') || word.contains("://"))?;
    let version = words.next().is_none_or(|version| version.starts_with("HTTP/"));
    (version && words.next().is_none()).then_some((Method::from_bytes(method.as_bytes()).ok()?, target.to_owned()))
}

/// The lines of a head; what is left is the body.
struct Lines<'b> {
    rest: &'b [u8],
    number: usize,
}

impl<'b> Lines<'b> {
    fn next(&mut self) -> Option<Cow<'b, str>> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = self.rest.get(..end)?;
        self.rest = self.rest.get(end + 1..)?;
        self.number += 1;
        Some(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

/// The webhook that `posthouse verify --request` reads from an HTTP request as captured.
pub fn webhook(request: &[u8], subject: &Subject) -> Result<UnverifiedWebhook, Stop> {
    let request = HttpRequest::parse(request).map_err(Stop::Asked)?;
    request.into_webhook(subject.registered_url().as_deref(), subject.source.scheme.signs_url())
}

/// What makes it doubtful that the body is what was sent.
pub(crate) fn doubts(webhook: &UnverifiedWebhook) -> Vec<String> {
    let header = |name: &str| location::header(&webhook.headers, name).map(Cow::into_owned);
    let mut doubts = Vec::new();
    let chunked = header("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"));
    if chunked && webhook.body.ends_with(b"0\r\n\r\n") {
        doubts.push(
            "the body is still in chunks, as Transfer-Encoding says: their sizes and line ends are not part of it".to_owned(),
        );
    }
    if let Some(said) = header("content-length").and_then(|length| length.trim().parse::<usize>().ok())
        && said != webhook.body.len()
    {
        doubts.push(format!("Content-Length says {said} bytes, but the body has {}", webhook.body.len()));
    }
    if header("content-encoding").is_some_and(|coding| coding != "identity") {
        doubts.push("Content-Encoding is there: providers mostly sign the bytes before they are compressed".to_owned());
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(request: &[u8], registered: Option<&str>) -> UnverifiedWebhook {
        HttpRequest::parse(request).unwrap().into_webhook(registered, false).unwrap()
    }

    #[test]
    fn crlf_and_lf_heads_are_the_same_and_the_body_is_untouched() {
        let body = b"{\r\n\n\0\xff}\n";
        for end in ["\r\n", "\n"] {
            let head =
                ["POST /p?a=1&b HTTP/1.1", "Host: example.com:8443", "X-A: 1 ", "x-a:2", "X-Long: a", "  b", "", ""].join(end);
            let webhook = webhook(&[head.as_bytes(), body].concat(), None);
            assert_eq!(webhook.full_url(), "https://example.com:8443/p?a=1&b");
            assert_eq!(webhook.body, body);
            assert_eq!(location::header(&webhook.headers, "x-a").as_deref(), Some("1,2"));
            assert_eq!(webhook.headers["x-long"], "a b");
        }
    }

    #[test]
    fn the_url_is_the_registered_one_with_the_requests_query() {
        let request = b"GET /internal?token=1 HTTP/1.1\nHost: 10.0.0.1\n\n";
        assert_eq!(webhook(request, Some("https://h/hooks")).full_url(), "https://h/hooks?token=1");
        let with_query = webhook(request, Some("https://h/hooks?own"));
        assert_eq!(with_query.full_url(), "https://h/hooks?token=1", "the query is the request's own, as for the receiver");
        assert_eq!(with_query.registered_query.as_deref(), Some("own"));
        let url_within = b"GET /x?to=https://other.example/ HTTP/1.1\nHost: h\n\n";
        assert_eq!(webhook(url_within, None).full_url(), "https://h/x?to=https://other.example/");
        let absolute = b"\r\nPOST http://u:p@h:1/x HTTP/1.1\r\n\r\n";
        assert_eq!(webhook(absolute, None).full_url(), "http://u:p@h:1/x");
        let no_host = || HttpRequest::parse(b"POST / HTTP/1.1\n\n").unwrap();
        assert!(no_host().into_webhook(None, true).unwrap_err().to_string().contains("--url"));
        assert!(no_host().into_webhook(None, false).is_ok());
    }

    #[test]
    fn what_is_no_request_is_told_with_its_line_and_not_shown() {
        let error = |request: &[u8]| HttpRequest::parse(request).unwrap_err();
        assert!(error(b"").contains("is empty"));
        assert!(error(b"\n\n").contains("is empty"));
        for no_request in
            ["hush\n\n", "POST hush HTTP/1.1\n\n", "post / HTTP/1.1\n\n", "POST / hush\n\n", "POST / HTTP/1.1 hush\n\n"]
        {
            let message = error(no_request.as_bytes());
            assert!(message.starts_with("line 1: ") && !message.contains("hush"), "{message}");
        }
        let message = error(b"POST / HTTP/1.1\na: b\nhush\n\n");
        assert!(message.starts_with("line 3: ") && !message.contains("hush"), "{message}");
        assert!(error(b"POST / HTTP/1.1\na: b\n").contains("no blank line"));
        let many = |count: usize| format!("POST / HTTP/1.1\n{}\n", "a: b\n".repeat(count)).into_bytes();
        assert!(HttpRequest::parse(&many(HEADERS_MAX)).is_ok());
        assert!(error(&many(HEADERS_MAX + 1)).contains("more than 1024 headers"));
    }

    #[test]
    fn a_body_that_is_not_as_its_headers_say_is_doubted() {
        let doubts = |head: &str, body: &str| doubts(&webhook(format!("POST / HTTP/1.1\n{head}\n\n{body}").as_bytes(), None));
        assert_eq!(doubts("content-length: 2", "ab"), Vec::<String>::new());
        assert!(doubts("content-length: 2", "ab\n")[0].contains("says 2 bytes, but the body has 3"));
        assert!(doubts("transfer-encoding: chunked", "2\r\nab\r\n0\r\n\r\n")[0].contains("chunks"));
        assert_eq!(doubts("transfer-encoding: chunked", "ab"), Vec::<String>::new());
        assert!(doubts("content-encoding: gzip", "ab")[0].contains("compressed"));
    }
}
