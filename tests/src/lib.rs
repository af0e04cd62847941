//! Posthouse's outside world, and journeys through the deployed stack.
//!
//! A stack is the functions, deployed from the one template on an AWS emulator, with two servers of this crate
//! around them:
//!
//! ```text
//!   journeys ──webhooks──▶ emulator ──▶ functions ──deliveries──▶ destination
//!      │                      ▲             │                          ▲
//!      │                      └─── wire ◀───┘ (their AWS calls)        │
//!      └──── scripts faults, reads counts and journals ────────────────┘
//! ```
//!
//! - [`destination`] takes deliveries, fails as it is told, and keeps a journal of what came.
//! - [`wire`] stands between the functions and the emulator: it counts their AWS calls and breaks them on demand.
//! - [`control`] gives the journeys their hands on those two.
//! - [`stack`] finds a running stack and gives the journeys in `tests/journeys/` their hands.
//! - [`providers`] signs webhooks as the providers do, without any of Posthouse's own code.
//! - [`certificate`] makes up what it shows in TLS.
//! - [`server`] is the HTTP server under the first two.
//! - [`model`] is AWS itself in memory, for tests that need neither a stack nor time.
//! - [`agreement`] sends requests to the receiver in that model and asks the command line about them.
//! - [`passage`] is one gateway in that model, from a request to what its destinations have.
//! - [`simulation`] is the whole gateway in that model, with a fault at any call; [`strangers`] is what nobody signed.
//!
//! What always holds: both servers listen on loopback alone. A stack is shared by journeys that run at the same time,
//! so a journey makes up its own event ids and narrows every script and fault to them. Nothing waits for a fixed
//! time: [`stack::eventually`] waits for a condition.

#![allow(clippy::disallowed_methods, reason = "programs around the stack live in real time")]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on has failed"))]

pub mod agreement;
pub mod captures;
pub mod certificate;
pub mod control;
pub mod crowds;
pub mod destination;
pub mod lambda;
pub mod model;
pub mod passage;
mod process;
pub mod providers;
pub mod reading;
mod requests;
pub mod server;
pub mod simulation;
pub mod stack;
pub mod strangers;
pub mod wire;
