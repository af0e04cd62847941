//! One bounded HTTP exchange, through the HTTP client that the AWS clients share, so that there is no second one in the binary.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_smithy_runtime::client::{
    auth::no_auth::NoAuthRuntimePluginV2, identity::IdentityCache, orchestrator::endpoints::StaticUriEndpointResolver,
    retries::strategy::NeverRetryStrategy,
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorSettings, SharedHttpClient},
        orchestrator::HttpRequest,
        runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
        runtime_plugin::RuntimePlugin,
    },
    http::Headers,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};

use super::FetchError;
use crate::aws::{self, CONNECT_TIMEOUT_MILLIS};

/// How long one fetch may take, from connecting to the last byte, in milliseconds. Somebody waits for the answer.
pub const FETCH_MILLIS_MAX: u64 = 2000;
/// Largest answer that is read, in bytes. Certificates, with their chain, are of a few thousand.
pub const FETCH_BYTES_MAX: usize = 64 * 1024;

const _: () = assert!(CONNECT_TIMEOUT_MILLIS < FETCH_MILLIS_MAX);

/// What is asked.
#[derive(Clone, Copy)]
pub(super) enum Request<'a> {
    Get(&'a str),
    PostJson(&'a str, &'a str),
}

/// What was answered, whatever the status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// How long its owner says that it counts from now on, in seconds (RFC 9111). `None` if nothing is said.
    pub(super) fresh_seconds: Option<u64>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body of a success. A redirect is none: what is fetched is pinned, and where a redirect leads is not.
    pub(super) fn success(self) -> Result<Vec<u8>, FetchError> {
        match self.status {
            200..=299 => Ok(self.body),
            // The owner's way of saying that there is no such thing. All other failures pass, or are ours.
            status @ (400 | 404 | 410) => Err(FetchError::Refused(format!("its owner answered {status}"))),
            status => Err(FetchError::Unavailable(format!("its owner answered {status}"))),
        }
    }
}

#[derive(Debug)]
pub(super) struct Transport {
    client: Option<(SharedHttpClient, RuntimeComponents)>,
    patience: Duration,
}

impl Transport {
    pub(super) fn new(config: &SdkConfig) -> Self {
        Self { client: config.http_client().zip(components(config)), patience: Duration::from_millis(FETCH_MILLIS_MAX) }
    }

    /// Answers of every status; an error only where there is no whole answer within the bounds.
    pub(super) async fn fetch(&self, request: Request<'_>) -> Result<Answer, FetchError> {
        match tokio::time::timeout(self.patience, self.exchange(request)).await {
            Ok(answer) => answer.map_err(FetchError::Unavailable),
            Err(_) => Err(FetchError::Unavailable(format!("no whole answer within {} ms", self.patience.as_millis()))),
        }
    }

    async fn exchange(&self, request: Request<'_>) -> Result<Answer, String> {
        let (client, components) = self.client.as_ref().ok_or("there is no HTTP client")?;
        let settings = HttpConnectorSettings::builder().connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MILLIS)).build();
        let request = request.build()?;
        // The client keeps its connectors, one for each settings.
        let response = client.http_connector(&settings, components).call(request).await.map_err(|error| aws::describe(&error))?;
        let status = response.status().as_u16();
        let fresh_seconds = fresh_seconds(response.headers());
        Ok(Answer { status, fresh_seconds, body: read(ByteStream::new(response.into_body())).await? })
    }
}

impl Request<'_> {
    fn build(self) -> Result<HttpRequest, String> {
        let (method, url, content) = match self {
            Self::Get(url) => ("GET", url, None),
            Self::PostJson(url, json) => ("POST", url, Some(json)),
        };
        let mut request = HttpRequest::new(content.map_or_else(SdkBody::empty, SdkBody::from));
        request.set_method(method).map_err(|error| aws::describe(&error))?;
        request.set_uri(url).map_err(|error| aws::describe(&error))?;
        request.headers_mut().insert("user-agent", "posthouse");
        if content.is_some() {
            request.headers_mut().insert("content-type", "application/json");
        }
        Ok(request)
    }
}

/// What `cache-control` says, less what `age` says that a cache on the way has used of it. Of two `max-age` the shorter counts.
fn fresh_seconds(headers: &Headers) -> Option<u64> {
    let directives = headers.get_all("cache-control").flat_map(|value| value.split(','));
    let seconds = directives.filter_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "max-age" => value.trim().trim_matches('"').parse::<u64>().ok(),
            "no-store" | "no-cache" => Some(0),
            _ => None,
        }
    });
    let age = headers.get("age").and_then(|age| age.trim().parse::<u64>().ok()).unwrap_or(0);
    seconds.min().map(|seconds| seconds.saturating_sub(age))
}

/// In pieces, so that what is too large is never in memory as a whole.
async fn read(mut body: ByteStream) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.map_err(|error| aws::describe(&error))?);
        if bytes.len() > FETCH_BYTES_MAX {
            return Err(format!("the answer is larger than {FETCH_BYTES_MAX} bytes"));
        }
    }
    Ok(bytes)
}

/// A connector is had only with the parts of a whole AWS client. Those that sign, find endpoints and retry are never used here.
fn components(config: &SdkConfig) -> Option<RuntimeComponents> {
    let builder = RuntimeComponentsBuilder::new("posthouse")
        .with_endpoint_resolver(Some(StaticUriEndpointResolver::http_localhost(1)))
        .with_identity_cache(Some(IdentityCache::no_cache()))
        .with_retry_strategy(Some(NeverRetryStrategy::new()))
        .with_time_source(config.time_source())
        .with_sleep_impl(config.sleep_impl());
    let no_auth = NoAuthRuntimePluginV2::new();
    let builder = builder.merge_from(&no_auth.runtime_components(&RuntimeComponentsBuilder::new("none")));
    builder.build().inspect_err(|error| tracing::error!(error = %error, "keys cannot be fetched")).ok()
}

/// An HTTP client that has its answers ready.
#[cfg(test)]
pub(super) mod canned {
    use std::sync::{Arc, Mutex};

    use aws_smithy_runtime_api::{
        client::{
            http::{HttpConnectorFuture, SharedHttpConnector},
            orchestrator::HttpResponse,
        },
        http::StatusCode,
    };

    use super::*;

    #[derive(Clone, Debug, Default)]
    pub(in crate::fetched) struct Canned {
        answer: Arc<Mutex<(u16, String)>>,
        headers: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
        requests: Arc<Mutex<Vec<String>>>,
    }

    impl Canned {
        pub(in crate::fetched) fn always(status: u16, body: &str) -> Self {
            let canned = Self::default();
            canned.answer(status, body);
            canned
        }

        /// What is answered from now on.
        pub(in crate::fetched) fn answer(&self, status: u16, body: &str) {
            *self.answer.lock().unwrap() = (status, body.to_owned());
        }

        /// What is answered beside it from now on.
        pub(in crate::fetched) fn headers(&self, headers: &[(&'static str, &'static str)]) {
            *self.headers.lock().unwrap() = headers.to_vec();
        }

        pub(in crate::fetched) fn count(&self) -> usize {
            self.requests.lock().unwrap().len()
        }

        /// The last request: method, URL, body.
        pub(in crate::fetched) fn last(&self) -> String {
            self.requests.lock().unwrap().last().cloned().unwrap()
        }

        pub(in crate::fetched) fn config(&self) -> SdkConfig {
            SdkConfig::builder().http_client(self.clone()).build()
        }
    }

    impl HttpConnector for Canned {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let body = String::from_utf8_lossy(request.body().bytes().unwrap()).into_owned();
            self.requests.lock().unwrap().push(format!("{} {} {body}", request.method(), request.uri()));
            let (status, body) = self.answer.lock().unwrap().clone();
            let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body));
            for (name, value) in self.headers.lock().unwrap().iter() {
                response.headers_mut().append(*name, *value);
            }
            // Not at once, so that others ask meanwhile.
            HttpConnectorFuture::new(async move {
                tokio::task::yield_now().await;
                Ok(response)
            })
        }
    }

    impl HttpClient for Canned {
        fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
            SharedHttpConnector::new(self.clone())
        }
    }
}

/// What the real client does, against a server on the loopback interface.
#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::{TcpListener, TcpStream},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
    };

    use super::*;

    /// A server that says `answer` to every request, and the number of connections that it has had.
    fn server(answer: impl Fn(TcpStream) + Send + 'static) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/key", listener.local_addr().unwrap());
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                answer(stream);
            }
        });
        (url, count)
    }

    /// Head and body of a request.
    fn read_request(stream: &TcpStream) -> (String, String) {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or_default() > 0 {}
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    fn says(head: &str, body: &[u8]) -> impl Fn(TcpStream) + Send + 'static {
        let bytes = [format!("{head}connection: close\r\n\r\n").as_bytes(), body].concat();
        move |mut stream| {
            read_request(&stream);
            let _ = stream.write_all(&bytes);
        }
    }

    /// The client of the AWS clients, as in a function, which also speaks plain HTTP.
    async fn transport() -> Transport {
        Transport::new(&aws::configure("test", aws::CallTimeouts::INTERACTIVE).await)
    }

    async fn impatient(millis: u64) -> Transport {
        Transport { patience: Duration::from_millis(millis), ..transport().await }
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_its_bound() {
        let transport = transport().await;
        for (length, fits) in [(0, true), (1000, true), (FETCH_BYTES_MAX, true), (FETCH_BYTES_MAX + 1, false)] {
            let body = vec![b'x'; length];
            for head in [format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n"), "HTTP/1.1 200 OK\r\n".to_owned()] {
                let (url, _) = server(says(&head, &body));
                let answer = transport.fetch(Request::Get(&url)).await;
                assert_eq!(answer.as_ref().ok().map(|answer| answer.body.len()), fits.then_some(length), "{answer:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        let (url, _) = server(|mut stream| {
            read_request(&stream);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let error = transport().await.fetch(Request::Get(&url)).await.unwrap_err();
        assert!(error.to_string().contains("larger than 65536 bytes"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_is_awaited_up_to_its_bound() {
        let slow = |pause: u64| {
            server(move |mut stream| {
                read_request(&stream);
                // A byte now and then keeps a connection alive, but not for longer than the bound on the whole.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n");
                for _ in 0..3 {
                    thread::sleep(Duration::from_millis(pause));
                    let _ = stream.write_all(b"x");
                }
            })
            .0
        };
        assert_eq!(impatient(5000).await.fetch(Request::Get(&slow(20))).await.unwrap().body, b"xxx");
        let error = impatient(250).await.fetch(Request::Get(&slow(200))).await.unwrap_err();
        assert_eq!(error, FetchError::Unavailable("no whole answer within 250 ms".to_owned()));
        assert_eq!(transport().await.patience, Duration::from_millis(FETCH_MILLIS_MAX));
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let (elsewhere, elsewhere_count) = server(says("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n", b"x"));
        for status in [301, 302, 303, 307, 308] {
            let head = format!("HTTP/1.1 {status} There\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n");
            let (url, _) = server(says(&head, b""));
            let answer = transport().await.fetch(Request::Get(&url)).await.unwrap();
            assert_eq!(answer.status, status);
            assert!(matches!(answer.success(), Err(FetchError::Unavailable(_))), "{status}");
        }
        assert_eq!(elsewhere_count.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn what_is_asked_arrives() {
        let (url, _) = server(|mut stream| {
            let (head, body) = read_request(&stream);
            let answer = format!("{head}{body}");
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{answer}");
        });
        let transport = transport().await;
        let text = |answer: Answer| String::from_utf8(answer.body).unwrap();
        let got = text(transport.fetch(Request::Get(&url)).await.unwrap());
        assert!(got.starts_with("get /key http/1.1\r\n") && got.contains("user-agent: posthouse\r\n"), "{got}");
        let posted = text(transport.fetch(Request::PostJson(&url, r#"{"a":1}"#)).await.unwrap());
        assert!(posted.starts_with("post /key") && posted.contains("content-type: application/json\r\n"), "{posted}");
        assert!(posted.ends_with("\r\n\r\n{\"a\":1}"), "{posted}");
    }

    #[tokio::test]
    async fn where_nobody_listens_the_key_is_unavailable() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = transport().await.fetch(Request::Get(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
        assert!(matches!(error, FetchError::Unavailable(_)), "{error}");
        assert!(matches!(transport().await.fetch(Request::Get("not a url")).await, Err(FetchError::Unavailable(_))));
    }

    #[test]
    fn what_an_owner_says_of_time_is_read() {
        let fresh = |given: &[(&'static str, &'static str)]| {
            let mut headers = Headers::new();
            given.iter().for_each(|(name, value)| {
                headers.append(*name, *value);
            });
            fresh_seconds(&headers)
        };
        assert_eq!(fresh(&[]), None);
        assert_eq!(fresh(&[("age", "5")]), None);
        // As Google sends it.
        assert_eq!(fresh(&[("cache-control", "public, max-age=21435, must-revalidate, no-transform")]), Some(21435));
        assert_eq!(fresh(&[("cache-control", "public, max-age=21435"), ("age", "435")]), Some(21000));
        assert_eq!(fresh(&[("Cache-Control", "Max-Age=\"60\"")]), Some(60));
        assert_eq!(fresh(&[("cache-control", "max-age=60"), ("age", "61")]), Some(0));
        assert_eq!(fresh(&[("cache-control", "max-age=60"), ("cache-control", "max-age=30")]), Some(30));
        assert_eq!(fresh(&[("cache-control", "max-age=60, no-store")]), Some(0));
        assert_eq!(fresh(&[("cache-control", "no-cache")]), Some(0));
        assert_eq!(fresh(&[("cache-control", "s-maxage=60, private")]), None);
        assert_eq!(fresh(&[("cache-control", "max-age=-1")]), None);
        assert_eq!(fresh(&[("cache-control", "max-age=99999999999999999999999")]), None);
    }

    #[test]
    fn statuses_say_whether_it_is_worth_while_to_come_again() {
        let check = |status: u16| Answer { status, fresh_seconds: None, body: Vec::new() }.success();
        for status in [200, 204, 299] {
            assert_eq!(check(status), Ok(Vec::new()), "{status}");
        }
        for status in [400, 404, 410] {
            assert!(matches!(check(status), Err(FetchError::Refused(_))), "{status}");
        }
        for status in [100, 199, 300, 302, 401, 403, 408, 429, 500, 503] {
            assert!(matches!(check(status), Err(FetchError::Unavailable(_))), "{status}");
        }
    }
}
