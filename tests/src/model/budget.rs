//! The SDK's budget of retries, kept from deciding anything.
//!
//! The SDK lets a process try again only while a budget lasts, one for each service and region, which retries drain and
//! successes slowly fill (`StandardRetryStrategy`). A function has a whole budget at its cold start. A process that runs many
//! histories would carry one from each to the next, and none could be told again by itself. So each caller gets a region to
//! itself, and a region from which too much has been spent is not given out again.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use super::Service;

/// What a retry costs at the most (`DEFAULT_RETRY_COST`), of a budget of 500.
const RETRY_COST: i64 = 14;
/// Most that may be missing at a cold start: that leaves enough for 28 retries of one environment.
const MISSING_MAX: i64 = 100;

static WHOLE: Mutex<Vec<Region>> = Mutex::new(Vec::new());
static MADE: AtomicU64 = AtomicU64::new(0);

/// What may be missing of each service's budget in a region.
#[derive(Debug, Default)]
struct Region {
    name: String,
    missing: [AtomicI64; 4],
}

/// Budgets that one caller has to itself.
#[derive(Debug, Default)]
pub(super) struct Budget(Region);

impl Budget {
    pub(super) fn take() -> Self {
        let known = WHOLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(known.unwrap_or_else(|| {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            Region { name: format!("model-{number}"), ..Region::default() }
        }))
    }

    pub(super) fn region(&self) -> String {
        self.0.name.clone()
    }

    /// A try failed, or takes so long that it will: there may be a retry.
    pub(super) fn spend(&self, service: Service) {
        self.missing(service).fetch_add(RETRY_COST, Ordering::Relaxed);
    }

    /// A call succeeded.
    pub(super) fn regain(&self, service: Service) {
        let missing = self.missing(service);
        let one_less = missing.load(Ordering::Relaxed).saturating_sub(1);
        missing.store(one_less.max(0), Ordering::Relaxed);
    }

    fn missing(&self, service: Service) -> &AtomicI64 {
        let [dynamodb, sqs, s3, secrets] = &self.0.missing;
        match service {
            Service::DynamoDb => dynamodb,
            Service::Sqs => sqs,
            Service::S3 => s3,
            Service::SecretsManager => secrets,
        }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        let region = std::mem::take(&mut self.0);
        if region.missing.iter().all(|missing| missing.load(Ordering::Relaxed) <= MISSING_MAX) {
            WHOLE.lock().unwrap_or_else(PoisonError::into_inner).push(region);
        }
    }
}
