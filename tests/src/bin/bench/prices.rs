//! AWS's list prices in us-east-1, without free tiers, in USD for a million. From the services' pricing pages.

/// A DynamoDB write request unit, on demand.
pub(crate) const WRITE_UNIT: f64 = 0.625;
/// A DynamoDB read request unit, on demand.
pub(crate) const READ_UNIT: f64 = 0.125;
/// A request to a standard SQS queue, of up to 64 KB.
pub(crate) const SQS_REQUEST: f64 = 0.40;
/// An S3 PUT.
pub(crate) const S3_PUT: f64 = 5.00;
/// A call of Secrets Manager: 0.05 for ten thousand.
pub(crate) const SECRET_CALL: f64 = 5.00;
/// A request to an HTTP API, of up to 512 KB.
pub(crate) const HTTP_API_REQUEST: f64 = 1.00;
/// A Lambda invocation, without its duration.
pub(crate) const LAMBDA_REQUEST: f64 = 0.20;
