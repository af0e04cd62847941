//! Bodies at rest: compressed with zstd in the event's item, or, where they do not fit, in S3 under their SHA-256.

use std::time::Duration;

use aws_sdk_s3::{Client, config::timeout::TimeoutConfig, primitives::ByteStream};

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
        // Bucket names in the path work with every endpoint.
        let config = aws_sdk_s3::config::Builder::from(config).timeout_config(timeouts).force_path_style(true).build();
        Self { client: Client::from_conf(config), bucket }
    }

    /// Compresses a body, and stores it first if it does not fit into an item.
    pub async fn keep(&self, sha256: &BodyDigest, body: &[u8]) -> Result<StoredBody, BodyError> {
        let compressed = compress(body)?;
        if compressed.len() <= ITEM_BODY_BYTES_MAX {
            return Ok(StoredBody::InItem(compressed));
        }
        self.put(sha256, compressed).await
    }

    /// Compresses a body that several events share, and stores it once, however small it is.
    pub async fn keep_shared(&self, sha256: &BodyDigest, body: &[u8]) -> Result<StoredBody, BodyError> {
        self.put(sha256, compress(body)?).await
    }

    async fn put(&self, sha256: &BodyDigest, compressed: Vec<u8>) -> Result<StoredBody, BodyError> {
        let key = format!("sha256/{}", sha256.to_hex());
        let put = self.client.put_object().bucket(&self.bucket).key(&key).body(ByteStream::from(compressed));
        put.send().await.map_err(|error| BodyError::Storage(aws::describe(&error)))?;
        Ok(StoredBody::InBucket(key))
    }

    /// The exact body that an event came in: of a batch, all of it. [`Event::own_part`] is the event's.
    pub async fn read(&self, event: &Event, stored: StoredBody) -> Result<Vec<u8>, BodyError> {
        let compressed = match stored {
            StoredBody::InItem(compressed) => compressed,
            StoredBody::InBucket(key) => self.fetch(&key).await?,
        };
        decompress(&compressed, event.body_bytes, &event.sha256)
    }

    async fn fetch(&self, key: &str) -> Result<Vec<u8>, BodyError> {
        let object = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let object = object.map_err(|error| BodyError::Storage(aws::describe(&error)))?;
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
    use super::*;

    #[test]
    fn bodies_of_every_kind_read_back_as_they_were() {
        for body in [&b""[..], b"\0", b"\xff\xfe", &[7; 100_000]] {
            let compressed = compress(body).unwrap();
            let read = decompress(&compressed, body.len(), &BodyDigest::of(body)).unwrap();
            assert_eq!(read, body);
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
