//! What Posthouse relies on AWS for, as contracts: each is written once, against plain SDK clients, and held to by
//!
//! - the model ([`tests::model`]), always, in this process and on a clock that waits for nobody;
//! - the local AWS of the stack that `POSTHOUSE_STACK` names, as the journeys' (`none`: by the model alone);
//! - a real account, if `POSTHOUSE_CONTRACTS=aws`: credentials and region come from `AWS_ACCESS_KEY_ID`,
//!   `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` and `AWS_REGION` (no profiles: `aws configure export-credentials --format
//!   env` writes them); or by whatever answers at a URL, if it is one.
//!
//! So the model's semantics are the emulator's, and both are AWS's. Where the emulator is known to differ, [`ground::Difference`] says
//! how, and the contract holds it to just that difference.
//!
//! Contracts run at the same time. Outside the model they share a table and a bucket, in which each makes up its own keys, and
//! have queues and secrets of their own. All of that has names that begin with `posthouse-contracts-` and is removed at the end; in
//! a real account it needs the rights to make and remove it, costs less than a cent and takes some minutes.
//!
//! `faults` is about the model alone: what it does with the fates of calls. `ledger` runs the journeys of that name on the model.

#![allow(clippy::disallowed_methods, reason = "contracts with AWS live in real time")]
#![allow(clippy::unwrap_used, reason = "a contract that cannot go on is broken")]

mod conditions;
mod faults;
mod ground;
mod items;
#[path = "../journeys/ledger.rs"]
mod ledger;
mod queries;
mod queues;
mod s3;
mod secrets;
mod transactions;
mod updates;

use aws_config::SdkConfig;
use tests::model::{Aws, CONTENT_TABLE, LEDGER_TABLE, Settings};

use ground::{contract, on_the_model};

/// What the journeys of the ledger need of a stack.
struct Stack {
    aws: SdkConfig,
    dynamodb: aws_sdk_dynamodb::Client,
}

impl Stack {
    fn output(&self, name: &str) -> &str {
        match name {
            "LedgerTableName" => LEDGER_TABLE,
            "ContentTableName" => CONTENT_TABLE,
            other => panic!("the model has no output {other}"),
        }
    }
}

/// Runs a journey of the ledger on the model.
fn journey(steps: impl AsyncFnOnce(&Stack)) {
    on_the_model(async || {
        // On this clock nothing waits for real, and time is a value in these journeys.
        let aws = Aws::new(Settings::posthouse(), shared::time::Timestamp::now);
        let aws = aws.config("journey");
        steps(&Stack { dynamodb: aws_sdk_dynamodb::Client::new(&aws), aws }).await;
    });
}
