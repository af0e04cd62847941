//! What an operator asks for: read strictly, since a filter that is misunderstood sends on what nobody meant.

use std::collections::HashSet;

use serde::Deserialize;
use shared::{
    doorbell::Doorbell,
    names::{DestinationName, SourceName},
};

/// Doorbells sent in a second unless the request says otherwise.
pub const PER_SECOND_DEFAULT: u32 = 100;
/// Most doorbells sent in a second: what SQS's own move task does at most.
pub const PER_SECOND_MAX: u32 = 500;
/// Most event ids in one request.
pub const EVENT_IDS_MAX: usize = 1000;

/// Which dead letters are sent on, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which.
    pub filter: Filter,
    /// Only count.
    pub dry_run: bool,
    /// At most so many.
    pub limit: u64,
    /// How fast.
    pub per_second: u32,
}

/// Which dead letters a plan means.
#[derive(Debug, PartialEq, Eq)]
pub enum Filter {
    /// Every one.
    All,
    /// Those of these events, each given as `{event_id}` or `{source}#{event_id}`.
    Events(HashSet<String>),
    /// Those of this source, to this destination, or both.
    Matching {
        /// `None`: any.
        source: Option<SourceName>,
        /// `None`: any.
        destination: Option<DestinationName>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Request {
    event_ids: Option<HashSet<String>>,
    all: Option<bool>,
    source: Option<SourceName>,
    destination: Option<DestinationName>,
    #[serde(default)]
    dry_run: bool,
    limit: Option<u64>,
    per_second: Option<u32>,
}

/// A request that cannot be followed; nothing has been done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not JSON of the expected form.
    #[error("the redrive request cannot be read: {0}")]
    Unreadable(String),
    /// It would mean nothing.
    #[error(r#"the redrive request says nothing about which events: give "eventIds", or "source" and/or "destination", or "all": true"#)]
    NoFilter,
    /// It could mean several things.
    #[error(r#"the redrive request contradicts itself: give one of "eventIds", "all", or "source" and/or "destination""#)]
    Contradictory,
    /// A number outside its bounds.
    #[error(r#""{name}" must be from 1 to {max}"#)]
    OutOfBounds {
        /// Which.
        name: &'static str,
        /// Its upper bound.
        max: u64,
    },
}

impl Plan {
    /// Reads a request.
    pub fn read(request: serde_json::Value) -> Result<Self, RequestError> {
        let request: Request = serde_json::from_value(request).map_err(|error| RequestError::Unreadable(error.to_string()))?;
        let by_name = request.source.is_some() || request.destination.is_some();
        let all = request.all == Some(true);
        let filter = match (request.event_ids, all, by_name) {
            (None, true, false) => Filter::All,
            (Some(ids), false, false) if ids.is_empty() => return Err(RequestError::NoFilter),
            (Some(ids), false, false) if ids.len() > EVENT_IDS_MAX => {
                return Err(RequestError::OutOfBounds { name: "eventIds", max: EVENT_IDS_MAX as u64 });
            }
            (Some(ids), false, false) => Filter::Events(ids),
            (None, false, true) => Filter::Matching { source: request.source, destination: request.destination },
            (None, false, false) => return Err(RequestError::NoFilter),
            _ => return Err(RequestError::Contradictory),
        };
        let per_second = request.per_second.unwrap_or(PER_SECOND_DEFAULT);
        if !(1..=PER_SECOND_MAX).contains(&per_second) {
            return Err(RequestError::OutOfBounds { name: "perSecond", max: PER_SECOND_MAX.into() });
        }
        let limit = request.limit.unwrap_or(u64::MAX);
        if limit == 0 {
            return Err(RequestError::OutOfBounds { name: "limit", max: u64::MAX });
        }
        Ok(Self { filter, dry_run: request.dry_run, limit, per_second })
    }
}

impl Filter {
    /// Whether a dead letter is meant.
    pub fn means(&self, doorbell: &Doorbell) -> bool {
        match self {
            Self::All => true,
            Self::Events(ids) => ids.contains(doorbell.event_id.as_str()) || ids.contains(&doorbell.event_key().to_string()),
            Self::Matching { source, destination } => {
                source.as_ref().is_none_or(|source| *source == doorbell.source)
                    && destination.as_ref().is_none_or(|destination| *destination == doorbell.destination)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn doorbell() -> Doorbell {
        serde_json::from_value(json!({"source": "github", "event_id": "7", "destination": "ci"})).unwrap()
    }

    #[test]
    fn each_filter_means_what_it_says() {
        let means = |request| Plan::read(request).unwrap().filter.means(&doorbell());
        assert!(means(json!({"all": true})));
        assert!(means(json!({"eventIds": ["6", "7"]})));
        assert!(means(json!({"eventIds": ["github#7"]})));
        assert!(!means(json!({"eventIds": ["stripe#7"]})));
        assert!(means(json!({"source": "github"})));
        assert!(means(json!({"source": "github", "destination": "ci"})));
        assert!(!means(json!({"source": "github", "destination": "other"})));
        assert!(!means(json!({"source": "stripe"})));
    }

    #[test]
    fn no_filter_and_contradictory_ones_are_refused() {
        let error = |request| Plan::read(request).unwrap_err();
        assert_eq!(error(json!({})), RequestError::NoFilter);
        assert_eq!(error(json!({"dryRun": true})), RequestError::NoFilter);
        assert_eq!(error(json!({"all": false})), RequestError::NoFilter);
        assert_eq!(error(json!({"eventIds": []})), RequestError::NoFilter);
        assert_eq!(error(json!({"all": true, "source": "github"})), RequestError::Contradictory);
        assert_eq!(error(json!({"all": true, "eventIds": ["7"]})), RequestError::Contradictory);
        assert_eq!(error(json!({"source": "github", "eventIds": ["7"]})), RequestError::Contradictory);
        assert!(error(json!({"al": true})).to_string().contains("unknown field `al`"));
        assert!(matches!(error(json!("all")), RequestError::Unreadable(_)));
    }

    #[test]
    fn bounds_hold_on_both_sides() {
        let reads = |request| Plan::read(request).is_ok();
        assert!(reads(json!({"all": true, "perSecond": 1})) && !reads(json!({"all": true, "perSecond": 0})));
        assert!(reads(json!({"all": true, "perSecond": PER_SECOND_MAX})));
        assert!(!reads(json!({"all": true, "perSecond": PER_SECOND_MAX + 1})));
        assert!(reads(json!({"all": true, "limit": 1})) && !reads(json!({"all": true, "limit": 0})));
        let ids = |count: usize| json!({"eventIds": (0..count).map(|n| n.to_string()).collect::<Vec<_>>()});
        assert!(reads(ids(EVENT_IDS_MAX)) && !reads(ids(EVENT_IDS_MAX + 1)));
    }

    #[test]
    fn the_sample_requests_are_read() {
        let read = |sample| Plan::read(serde_json::from_str(sample).unwrap()).unwrap();
        let all = read(include_str!("../../../events/lambda/redrive-all-dry-run.json"));
        assert!(all.dry_run && all.filter == Filter::All);
        let by_source = read(include_str!("../../../events/lambda/redrive-by-source.json"));
        assert!(matches!(by_source.filter, Filter::Matching { source: Some(_), .. }));
    }
}
