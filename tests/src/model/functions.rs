//! The functions, composed over the model: each instance with clients of its own, as each environment of Lambda has.

use std::{cell::RefCell, path::Path, sync::Arc};

use auditor::Auditor;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use dispatcher::Dispatcher;
use receiver::Receiver;
use redrive::{DeadLetters, Redrive};
use shared::{
    bodies::Bodies, config::Gateway, doorbell::Bell, fetched::FetchedKeys, ledger::Ledger, routing::Routing, secrets::Keyrings,
};
use worker::{Exchange, Handlers, Planning, Targets, Tokens, Worker};

use super::{Aws, BODIES_BUCKET, CONTENT_TABLE, DEAD_LETTER_QUEUE, DOORBELL_QUEUE, LEDGER_TABLE, Message};

/// How the names of secrets begin.
pub const SECRETS_PREFIX: &str = "model/";

/// Messages as SQS hands them to Lambda: the id, the receipt handle, the body of each.
pub fn batch<'m>(messages: impl IntoIterator<Item = (&'m str, &'m str, &'m str)>) -> SqsEvent {
    let mut batch = SqsEvent::default();
    batch.records = messages
        .into_iter()
        .map(|(id, receipt_handle, body)| {
            let mut record = SqsMessage::default();
            record.message_id = Some(id.to_owned());
            record.receipt_handle = Some(receipt_handle.to_owned());
            record.body = Some(body.to_owned());
            record
        })
        .collect();
    batch
}

/// Messages of any queue as SQS hands them to Lambda.
pub fn batch_of(messages: &[Message]) -> SqsEvent {
    let mut batch = batch(messages.iter().map(parts));
    for (record, message) in batch.records.iter_mut().zip(messages) {
        record.attributes.extend(message.group.clone().map(|group| ("MessageGroupId".to_owned(), group)));
        record.attributes.insert("ApproximateReceiveCount".to_owned(), message.receive_count.to_string());
    }
    batch
}

/// What a function received, as [`batch`] takes it.
pub fn parts(message: &Message) -> (&str, &str, &str) {
    (&message.id, message.receipt_handle.as_deref().unwrap_or_default(), &message.body)
}

thread_local! {
    /// The last configuration's, by its expressions: a history has many workers, and compiling takes longer than most of it.
    static COMPILED: RefCell<(String, Arc<Routing>)> = RefCell::default();
}

/// What the routes of a worker make of events, compiled once for all that have the same.
fn shared_routing(gateway: &Gateway) -> Arc<Routing> {
    let sources = gateway.sources.values().map(|source| (&source.name, &source.routes, &source.contracts));
    let key = format!("{:?}", sources.collect::<Vec<_>>());
    COMPILED.with_borrow_mut(|(known, compiled)| {
        if *known != key {
            (*known, *compiled) = (key, Arc::new(routing(gateway)));
        }
        compiled.clone()
    })
}

/// The routes of a configuration that names no file beside it.
fn routing(gateway: &Gateway) -> Routing {
    Routing::load(gateway, Path::new("gateway.toml")).expect("the expressions of a test can be compiled")
}

impl Aws {
    /// A receiver. `instance` is who calls, as given to [`Aws::config`].
    #[must_use]
    pub fn receiver(&self, instance: &str, gateway: Gateway) -> Receiver {
        let config = self.config(instance);
        let bell = Bell::new(&config, self.queue_url(DOORBELL_QUEUE));
        Receiver {
            routing: bell.is_fifo().then(|| routing(&gateway)),
            bell,
            gateway,
            keyrings: Keyrings::new(&config, SECRETS_PREFIX.to_owned()),
            front_door: None,
            fetched_keys: FetchedKeys::new(&config),
            bodies: Bodies::new(&config, BODIES_BUCKET.to_owned()),
            ledger: Ledger::new(&config, LEDGER_TABLE.to_owned()).remembering(CONTENT_TABLE.to_owned()),
        }
    }

    /// A worker with these ways to its destinations.
    #[must_use]
    pub fn worker<E: Exchange>(&self, instance: &str, gateway: Gateway, exchange: E, handlers: Handlers) -> Worker<E> {
        let config = self.config(instance);
        Worker {
            routing: shared_routing(&gateway),
            planning: Planning::InPlace,
            gateway,
            ledger: Ledger::new(&config, LEDGER_TABLE.to_owned()),
            bodies: Bodies::new(&config, BODIES_BUCKET.to_owned()),
            keyrings: Keyrings::new(&config, SECRETS_PREFIX.to_owned()),
            doorbells: Bell::new(&config, self.queue_url(DOORBELL_QUEUE)),
            dead_letters: Bell::new(&config, self.queue_url(DEAD_LETTER_QUEUE)),
            exchange,
            tokens: Tokens::default(),
            targets: Targets::new(&config),
            handlers,
        }
    }

    /// An auditor.
    #[must_use]
    pub fn auditor(&self, instance: &str, gateway: Gateway) -> Auditor {
        let config = self.config(instance);
        Auditor { gateway, ledger: Ledger::new(&config, LEDGER_TABLE.to_owned()) }
    }

    /// A dispatcher for so many workers.
    #[must_use]
    pub fn dispatcher(&self, instance: &str, gateway: Gateway, workers: u32) -> Dispatcher {
        let config = self.config(instance);
        Dispatcher {
            gateway,
            ledger: Ledger::new(&config, LEDGER_TABLE.to_owned()),
            bell: Bell::new(&config, self.queue_url(DOORBELL_QUEUE)),
            workers,
        }
    }

    /// A redrive.
    #[must_use]
    pub fn redrive(&self, instance: &str) -> Redrive {
        let config = self.config(instance);
        Redrive {
            ledger: Ledger::new(&config, LEDGER_TABLE.to_owned()),
            doorbells: Bell::new(&config, self.queue_url(DOORBELL_QUEUE)),
            dead_letters: DeadLetters::new(&config, self.queue_url(DEAD_LETTER_QUEUE)),
        }
    }

    /// The current value of the secret that [`SECRETS_PREFIX`] and this name make.
    pub fn put_signing_secret(&self, name: &str, text: &str) {
        self.put_secret(&format!("{SECRETS_PREFIX}{name}"), text);
    }
}
