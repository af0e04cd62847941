//! The words of Posthouse as types, shared by every function.
//!
//! A webhook comes in as an [`signatures::UnverifiedWebhook`]; only [`signatures::Scheme::verify`] turns it into a
//! [`signatures::VerifiedWebhook`], and only from that can an [`event::Event`] be made. The [`ledger`] is the truth about
//! events and deliveries; the [`doorbell`] only says that there is something to do.
//!
//! Nothing here reads the clock: time comes in as a [`time::Timestamp`].

pub mod aws;
pub mod bodies;
pub mod config;
pub mod content;
pub mod contract;
pub mod door;
pub mod doorbell;
pub mod environment;
pub mod event;
pub mod fetched;
pub mod jq;
pub mod json;
pub mod ledger;
pub mod location;
pub mod names;
pub mod networks;
pub mod observe;
pub mod routing;
pub mod secrets;
pub mod signatures;
pub mod time;
