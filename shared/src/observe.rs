//! Logs and metrics. Logs are JSON lines on standard output, as the template's `LoggingConfig` asks; metrics are lines of
//! CloudWatch's embedded metric format among them, so that they cost no call.

use metrics_cloudwatch_embedded::{Builder, Collector};

use crate::environment::required;

/// Collects metrics until [`Metrics::flush`].
#[derive(Clone, Copy)]
pub struct Metrics(&'static Collector);

impl Metrics {
    /// Installs the collector, once in a process, under the CloudWatch namespace of `METRICS_NAMESPACE`: each stack has its own,
    /// so that stacks in one region do not ring each other's alarms.
    pub fn init() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(Builder::new().cloudwatch_namespace(required("METRICS_NAMESPACE")?).init()?))
    }

    /// Writes what was counted since the last time to standard output. At the end of each invocation, since the process
    /// may be frozen after it.
    pub fn flush(self) {
        if let Err(error) = self.0.flush(std::io::stdout()) {
            tracing::error!(%error, "metrics could not be written");
        }
    }
}

/// Logs why a function cannot start, in words: what `main` returns would be shown as a data structure.
pub fn explain<T, E: std::fmt::Display>(started: Result<T, E>) -> Result<T, E> {
    started.inspect_err(|error| tracing::error!("cannot start: {error}"))
}
