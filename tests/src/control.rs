//! The journeys' hands on the two servers around the stack: scripts and journals of the destination, faults and counts of the
//! wire.

use reqwest::{Client, RequestBuilder, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    destination::{Endpoint, Entry},
    wire::{Count, Fault, FaultReport},
};

/// Control of the stack's destination.
pub struct DestinationControl {
    pub(crate) http: Client,
    pub(crate) base: String,
}

impl DestinationControl {
    /// Scripts what the destination answers to requests that name the event.
    pub async fn script(&self, name: &str, event: &str, script: Value) {
        send(self.http.put(self.url("_control", name, event)).json(&script)).await;
    }

    /// Scripts what the destination answers to every request to `name`.
    pub async fn script_all(&self, name: &str, script: Value) {
        send(self.http.put(format!("{}/_control/{name}", self.base)).json(&script)).await;
    }

    /// Makes a token endpoint (see [`Endpoint`]), or makes it anew.
    pub async fn token_endpoint(&self, name: &str, endpoint: &Value) {
        send(self.http.put(format!("{}/_token/{name}", self.base)).json(endpoint)).await;
    }

    /// What a token endpoint has done.
    pub async fn token_endpoint_state(&self, name: &str) -> Endpoint {
        fetch(self.http.get(format!("{}/_token/{name}", self.base))).await
    }

    /// Back to answering 200 for the event.
    pub async fn heal(&self, name: &str, event: &str) {
        send(self.http.delete(self.url("_control", name, event))).await;
    }

    /// What the destination was sent that names the event, oldest first.
    pub async fn journal(&self, name: &str, event: &str) -> Vec<Entry> {
        fetch(self.http.get(self.url("_journal", name, event))).await
    }

    fn url(&self, what: &str, name: &str, event: &str) -> Url {
        let mut url = Url::parse(&format!("{}/{what}/{name}", self.base)).expect("names are parts of paths");
        url.query_pairs_mut().append_pair("event", event);
        url
    }
}

/// Control of the stack's wire.
pub struct WireControl {
    pub(crate) http: Client,
    pub(crate) base: String,
}

impl WireControl {
    /// Sets a fault (see [`crate::wire::Fault`]) and gives its id.
    pub async fn fault(&self, fault: Value) -> String {
        let ids: Vec<String> = fetch(self.http.put(format!("{}/_wire/faults", self.base)).json(&fault)).await;
        ids.into_iter().next().expect("one fault has one id")
    }

    /// Sets a list of faults.
    pub async fn faults(&self, faults: &[Fault]) {
        send(self.http.put(format!("{}/_wire/faults", self.base)).json(faults)).await;
    }

    /// What came of all faults.
    pub async fn reports(&self) -> Vec<FaultReport> {
        fetch(self.http.get(format!("{}/_wire/faults", self.base))).await
    }

    /// What came of a fault.
    pub async fn report(&self, id: &str) -> FaultReport {
        self.reports().await.into_iter().find(|report| report.fault.id.as_deref() == Some(id)).expect("the fault is still set")
    }

    /// Takes all faults away, those of others included.
    pub async fn mend_all(&self) {
        send(self.http.delete(format!("{}/_wire/faults", self.base))).await;
    }

    /// Takes a fault away.
    pub async fn mend(&self, id: &str) {
        send(self.http.delete(format!("{}/_wire/faults/{id}", self.base))).await;
    }

    /// The calls since the last [`Self::start_counting`].
    pub async fn counts(&self) -> Vec<Count> {
        fetch(self.http.get(format!("{}/_wire/counts", self.base))).await
    }

    /// Counts from nothing. All journeys share the counts.
    pub async fn start_counting(&self) {
        send(self.http.delete(format!("{}/_wire/counts", self.base))).await;
    }
}

async fn send(request: RequestBuilder) -> reqwest::Response {
    let answer = request.send().await.expect("a server of the stack answers");
    let (url, status) = (answer.url().clone(), answer.status());
    assert!(status.is_success(), "{url} answered {status}: {}", answer.text().await.unwrap_or_default());
    answer
}

pub(crate) async fn fetch<T: DeserializeOwned>(request: RequestBuilder) -> T {
    send(request).await.json().await.expect("a server of the stack answers in its own form")
}
