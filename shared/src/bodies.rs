//! Bodies at rest: compressed with zstd in the event's item, or, where they do not fit, in S3 under their SHA-256.

use std::{sync::Arc, time::Duration};

use aws_sdk_s3::{
    Client, config::timeout::TimeoutConfig, error::SdkError, operation::get_object::GetObjectError, primitives::ByteStream,
};
use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::{
    aws,
    event::{BodyDigest, Event},
};

/// Largest compressed body kept in an item, in bytes. DynamoDB allows 400 KB an item; the rest is for keys, headers and names.
pub const ITEM_BODY_BYTES_MAX: usize = 350 * 1024;
/// zstd's level: 3 is its default; higher ones cost more CPU than the write units they save on bodies of a few KB.
const COMPRESSION_LEVEL: i32 = 3;
/// One try at moving a body to or from S3.
const TRANSFER_ATTEMPT_SECONDS: u64 = 3;
/// All tries at moving a body.
const TRANSFER_SECONDS: u64 = 4;

const _: () = assert!(ITEM_BODY_BYTES_MAX + 40 * 1024 < 400 * 1000);

/// Why a body could not be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It could not be moved.
    #[error("the body cannot be kept or had: {0}")]
    Storage(String),
    /// It is not where it was put. It was erased, or the bucket forgets sooner than the ledger.
    #[error("the body is not in the bucket any more: {0}")]
    Missing(String),
    /// What is there is not what was written.
    #[error("the stored body cannot be read: {0}")]
    Corrupt(String),
}

/// Where a compressed body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredBody {
    /// In the event's own item.
    InItem(Vec<u8>),
    /// In the bucket, under this key.
    InBucket(String),
    /// For the bucket, which does not have it yet: the ledger puts it there before the first item that points to it, and not at all where
    /// there is none to be written.
    ForBucket(Arc<Upload>),
}

/// A body that goes into the bucket if it is needed there, and once, however many events share it.
#[derive(Debug)]
pub struct Upload {
    bodies: Bodies,
    key: String,
    compressed: Bytes,
    is_done: OnceCell<()>,
}

impl PartialEq for Upload {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.compressed) == (&other.key, &other.compressed)
    }
}

impl Eq for Upload {}

impl Upload {
    /// Its key in the bucket.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it is in the bucket.
    pub fn is_done(&self) -> bool {
        self.is_done.initialized()
    }

    /// Puts it there, unless that has been done.
    pub async fn put(&self) -> Result<(), BodyError> {
        let put = || self.bodies.put(&self.key, self.compressed.clone());
        self.is_done.get_or_try_init(put).await.map(drop)
    }
}

/// The bucket of bodies that do not fit into an item. An object is named by its content, so writing it twice is harmless; a
/// second write also starts its life in the bucket anew, which the lifecycle rule counts.
#[derive(Clone, Debug)]
pub struct Bodies {
    client: Client,
    bucket: String,
}

impl Bodies {
    /// Bodies in this bucket.
    pub fn new(config: &aws_config::SdkConfig, bucket: String) -> Self {
        // A few megabytes take longer than the calls that the shared timeouts are made for.
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(Duration::from_secs(TRANSFER_ATTEMPT_SECONDS))
            .operation_timeout(Duration::from_secs(TRANSFER_SECONDS))
            .build();
        // AWS's own endpoint has a host for each bucket; one that somebody set, as the local stack, does not.
        let in_path = config.endpoint_url().is_some();
        let config = aws_sdk_s3::config::Builder::from(config).timeout_config(timeouts).force_path_style(in_path).build();
        Self { client: Client::from_conf(config), bucket }
    }

    /// Compresses a body. If it does not fit into an item, it is for the bucket.
    pub fn prepare(&self, sha256: &BodyDigest, body: &[u8]) -> Result<StoredBody, BodyError> {
        let compressed = compress(body)?;
        match compressed.len() <= ITEM_BODY_BYTES_MAX {
            true => Ok(StoredBody::InItem(compressed)),
            false => Ok(self.for_bucket(sha256, compressed)),
        }
    }

    /// Compresses a body that several events share: it is for the bucket, however small it is.
    pub fn prepare_shared(&self, sha256: &BodyDigest, body: &[u8]) -> Result<StoredBody, BodyError> {
        Ok(self.for_bucket(sha256, compress(body)?))
    }

    fn for_bucket(&self, sha256: &BodyDigest, compressed: Vec<u8>) -> StoredBody {
        let key = format!("sha256/{}", sha256.to_hex());
        let upload = Upload { bodies: self.clone(), key, compressed: compressed.into(), is_done: OnceCell::new() };
        StoredBody::ForBucket(Arc::new(upload))
    }

    async fn put(&self, key: &str, compressed: Bytes) -> Result<(), BodyError> {
        let put = self.client.put_object().bucket(&self.bucket).key(key).body(ByteStream::from(compressed));
        put.send().await.map(drop).map_err(|error| BodyError::Storage(aws::describe(&error)))
    }

    /// The exact body that an event came in: of a batch, all of it. [`Event::own_part`] is the event's.
    pub async fn read(&self, event: &Event, stored: StoredBody) -> Result<Vec<u8>, BodyError> {
        let compressed = match stored {
            StoredBody::InItem(compressed) => compressed,
            StoredBody::InBucket(key) => self.fetch(&key).await?,
            StoredBody::ForBucket(upload) => upload.compressed.to_vec(),
        };
        decompress(&compressed, event.body_bytes, &event.sha256)
    }

    async fn fetch(&self, key: &str) -> Result<Vec<u8>, BodyError> {
        let object = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let object = object.map_err(|error| match &error {
            SdkError::ServiceError(answer) if matches!(answer.err(), GetObjectError::NoSuchKey(_)) => {
                BodyError::Missing(key.to_owned())
            }
            _ => BodyError::Storage(aws::describe(&error)),
        })?;
        let bytes = object.body.collect().await.map_err(|error| BodyError::Storage(error.to_string()))?;
        Ok(bytes.to_vec())
    }
}

fn compress(body: &[u8]) -> Result<Vec<u8>, BodyError> {
    zstd::bulk::compress(body, COMPRESSION_LEVEL).map_err(|error| BodyError::Storage(error.to_string()))
}

/// Decompresses and proves that the body is the one that was written.
fn decompress(compressed: &[u8], body_bytes: usize, sha256: &BodyDigest) -> Result<Vec<u8>, BodyError> {
    let body = zstd::bulk::decompress(compressed, body_bytes).map_err(|error| BodyError::Corrupt(error.to_string()))?;
    if BodyDigest::of(&body) != *sha256 {
        return Err(BodyError::Corrupt("its SHA-256 differs from the event's".to_owned()));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use aws_config::Region;
    use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
    use aws_smithy_runtime_api::{
        client::{
            http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
            orchestrator::{HttpRequest, HttpResponse},
        },
        http::StatusCode,
    };
    use aws_smithy_types::body::SdkBody;

    use super::*;

    #[test]
    fn bodies_of_every_kind_read_back_as_they_were() {
        for body in [&b""[..], b"\0", b"\xff\xfe", &[7; 100_000]] {
            let compressed = compress(body).unwrap();
            let read = decompress(&compressed, body.len(), &BodyDigest::of(body)).unwrap();
            assert_eq!(read, body);
        }
    }

    /// A host that takes everything, and the URLs that it was asked for.
    #[derive(Clone, Debug, Default)]
    struct Host(Arc<Mutex<Vec<String>>>);

    impl HttpConnector for Host {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            self.0.lock().unwrap().push(request.uri().to_owned());
            HttpConnectorFuture::ready(Ok(HttpResponse::new(StatusCode::try_from(200).unwrap(), SdkBody::empty())))
        }
    }

    #[tokio::test]
    async fn a_bucket_is_a_host_at_aws_and_a_path_at_an_endpoint_that_somebody_set() {
        for (endpoint, url) in [
            (None, "https://kept.s3.eu-central-1.amazonaws.com/sha256/"),
            (Some("http://127.0.0.1:4566"), "http://127.0.0.1:4566/kept/sha256/"),
        ] {
            let host = Host::default();
            let client = host.clone();
            let config = aws_config::SdkConfig::builder()
                .behavior_version(aws::behavior())
                .region(Region::new("eu-central-1"))
                .credentials_provider(SharedCredentialsProvider::new(Credentials::new("a", "b", None, None, "test")))
                .http_client(http_client_fn(move |_, _| SharedHttpConnector::new(client.clone())));
            let config = endpoint.into_iter().fold(config, |config, endpoint| config.endpoint_url(endpoint)).build();
            let digest = BodyDigest::of(b"body");
            let prepared = Bodies::new(&config, "kept".to_owned()).prepare_shared(&digest, b"body").unwrap();
            let StoredBody::ForBucket(upload) = prepared else { panic!("it is shared") };
            for _ in 0..2 {
                upload.put().await.unwrap();
            }
            let asked = host.0.lock().unwrap().clone();
            assert_eq!(asked.len(), 1, "it is put once");
            assert!(asked[0].starts_with(&format!("{url}{}", digest.to_hex())), "{asked:?}");
        }
    }

    #[test]
    fn a_body_that_is_not_the_one_written_is_refused() {
        let digest = BodyDigest::of(b"body");
        assert!(decompress(&compress(b"bodx").unwrap(), 4, &digest).is_err());
        assert!(decompress(b"nonsense", 4, &digest).is_err());
        assert!(decompress(&compress(b"body").unwrap(), 3, &digest).is_err());
    }
}
