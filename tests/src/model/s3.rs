//! S3: objects of one bucket, with bucket names in the path.

use std::collections::BTreeMap;

use bytes::Bytes;
use md5::{Digest, Md5};

use super::http::{Answer, Fault, Request};

/// Buckets with their objects.
#[derive(Debug)]
pub(super) struct S3 {
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
}

#[derive(Clone, Debug)]
struct Object {
    body: Bytes,
    /// The checksum that came with it, by its header's name.
    checksum: Option<(String, String)>,
}

/// What a method does to an object.
pub(super) fn operation(method: &str) -> &'static str {
    match method {
        "PUT" => "PutObject",
        "GET" => "GetObject",
        "HEAD" => "HeadObject",
        "DELETE" => "DeleteObject",
        other => panic!("the model has no S3 operation by {other}"),
    }
}

impl S3 {
    pub(super) fn new(buckets: Vec<String>) -> Self {
        Self { buckets: buckets.into_iter().map(|name| (name, BTreeMap::new())).collect() }
    }

    pub(super) fn handle(&mut self, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let known = query.is_empty() || query == format!("x-id={}", request.operation);
        assert!(known, "the model has no S3 operation {} with {query}", request.operation);
        let path = decoded(path.trim_start_matches('/'));
        let Some((bucket, key)) = path.split_once('/') else { panic!("the model has no S3 operation on a bucket") };
        let Some(objects) = self.buckets.get_mut(bucket) else {
            return error(404, "NoSuchBucket", "The specified bucket does not exist", request.operation == "HeadObject");
        };
        match request.operation.as_str() {
            "PutObject" => {
                let object = Object { body: body_of(request), checksum: checksum_of(request) };
                let answer = Answer { status: 200, headers: object.headers(), body: Bytes::new() };
                objects.insert(key.to_owned(), object);
                answer
            }
            "DeleteObject" => {
                objects.remove(key);
                Answer { status: 204, headers: Vec::new(), body: Bytes::new() }
            }
            operation => match objects.get(key) {
                None => error(404, "NoSuchKey", "The specified key does not exist.", operation == "HeadObject"),
                Some(object) => {
                    let mut headers = object.headers();
                    headers.push(("content-length", object.body.len().to_string()));
                    let body = if operation == "HeadObject" { Bytes::new() } else { object.body.clone() };
                    Answer { status: 200, headers, body }
                }
            },
        }
    }

    pub(super) fn remove(&mut self, bucket: &str, key: &str) {
        let removed = self.buckets.get_mut(bucket).and_then(|objects| objects.remove(key));
        removed.unwrap_or_else(|| panic!("the model has no object {key} in {bucket}"));
    }

    pub(super) fn objects(&self, bucket: &str) -> BTreeMap<String, Bytes> {
        let objects = self.buckets.get(bucket).unwrap_or_else(|| panic!("the model has no bucket {bucket}"));
        objects.iter().map(|(key, object)| (key.clone(), object.body.clone())).collect()
    }
}

impl Object {
    fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![("etag", format!("\"{}\"", hex::encode(Md5::digest(&self.body))))];
        if let Some((name, value)) = &self.checksum {
            let known = ["x-amz-checksum-crc32", "x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme", "x-amz-checksum-sha256"];
            headers.extend(known.into_iter().find(|known| known == name).map(|name| (name, value.clone())));
            headers.push(("x-amz-checksum-type", "FULL_OBJECT".to_owned()));
        }
        headers
    }
}

fn checksum_of(request: &Request) -> Option<(String, String)> {
    let in_header =
        request.headers.iter().find(|(name, _)| name.starts_with("x-amz-checksum-") && name != "x-amz-checksum-algorithm");
    in_header.cloned().or_else(|| {
        // Behind a body in chunks.
        let name = request.header("x-amz-trailer")?;
        let end = request.body.windows(name.len()).rposition(|window| window == name.as_bytes())?;
        let line = request.body[end + name.len() + 1..].split(|byte| *byte == b'\r').next()?;
        Some((name.to_owned(), String::from_utf8_lossy(line).trim().to_owned()))
    })
}

/// The body, taken out of the chunks that the SDK may send it in.
fn body_of(request: &Request) -> Bytes {
    let is_chunked = request.header("content-encoding").is_some_and(|encoding| encoding.contains("aws-chunked"));
    if !is_chunked {
        return request.body.clone();
    }
    let mut body = Vec::new();
    let mut rest = &request.body[..];
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let line = String::from_utf8_lossy(&rest[..end]);
        let size = line.split(';').next().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size @ 1..) = size else { break };
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
    body.into()
}

fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let escaped = (byte == b'%').then(|| [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')]);
        let escaped = escaped.and_then(|digits| hex::decode(digits).ok());
        bytes.push(escaped.map_or(byte, |decoded| decoded[0]));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn error(status: u16, code: &str, message: &str, is_head: bool) -> Answer {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><RequestId>model</RequestId></Error>"
    );
    // An answer to HEAD has no body, so it cannot name its error.
    let body = if is_head { Bytes::new() } else { xml.into() };
    Answer { status, headers: vec![("content-type", "application/xml".to_owned())], body }
}

/// The errors that S3 gives for reasons of its own.
pub(super) fn fault(fault: Fault) -> Answer {
    match fault {
        Fault::Internal => error(500, "InternalError", "We encountered an internal error. Please try again.", false),
        Fault::Throttled => error(503, "SlowDown", "Please reduce your request rate.", false),
    }
}
