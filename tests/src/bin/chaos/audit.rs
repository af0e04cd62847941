//! The audit of a run: the auditor's own account of everything that was recorded since the run began.

use std::{path::Path, time::Duration};

use ::tests::stack::Stack;
use auditor::{AUDIT_DELAY_SECONDS, Auditor};
use aws_sdk_dynamodb::types::AttributeValue;
use serde::Deserialize;
use serde_json::json;
use shared::{config::Gateway, ledger::Ledger, time::Timestamp};

use crate::functions::start;

/// How long an audit with a clock that is ahead may take.
const AHEAD_SECONDS_MAX: u64 = 60;

/// How often the account is asked for.
const ACCOUNTS_MAX: u32 = 5;

/// What the auditor answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    pub(crate) recorded: u64,
    pub(crate) done: u64,
    pub(crate) dead: u64,
    pub(crate) cancelled: u64,
    pub(crate) waiting: u64,
    pub(crate) queued: u64,
    pub(crate) attended: u64,
}

impl Account {
    pub(crate) fn unaccounted(&self) -> u64 {
        self.recorded.saturating_sub(self.done + self.dead + self.cancelled + self.waiting + self.queued)
    }
}

/// The account of everything since `began`, which has `expected` deliveries.
pub(crate) async fn whole(stack: &Stack, began: Timestamp, expected: u64, quick: bool) -> Account {
    let closed = Timestamp::now().plus(Duration::from_secs(AUDIT_DELAY_SECONDS));
    let mut account = Account::default();
    // The scheduled auditor may move the watermark between the two.
    for _ in 0..ACCOUNTS_MAX {
        begin_at(stack, began).await;
        if quick {
            account = ahead(stack).await;
        } else {
            tokio::time::sleep(Duration::from_millis(closed.millis().saturating_sub(Timestamp::now().millis()))).await;
            account = deployed(stack).await.unwrap_or_default();
        }
        if account.recorded == expected {
            break;
        }
    }
    account
}

/// Lets the deployed auditor run at this moment; nothing if it fails.
pub(crate) async fn deployed(stack: &Stack) -> Option<Account> {
    let answer = start(stack, "AuditorFunctionName", &json!({})).await?;
    Some(serde_json::from_value(answer).expect("the auditor answers with its account"))
}

/// Runs the auditor's own code here with a clock that is ahead by what it stays behind, so that this very moment has closed.
pub(crate) async fn ahead(stack: &Stack) -> Account {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/local/gateway/gateway.toml");
    let auditor = Auditor {
        gateway: Gateway::load(&path).expect("the local configuration is valid"),
        ledger: Ledger::new(&stack.aws, stack.output("LedgerTableName").to_owned())
            .remembering(stack.output("ContentTableName").to_owned()),
    };
    let account = auditor.audit(soon().plus(Duration::from_secs(AHEAD_SECONDS_MAX)), soon).await;
    let account = serde_json::to_value(account.expect("the ledger can be audited")).expect("an account is JSON");
    serde_json::from_value(account).expect("it is the auditor's own form")
}

/// Sets the watermark back, so that the next audit accounts for everything since `began`.
pub(crate) async fn begin_at(stack: &Stack, began: Timestamp) {
    let put = stack.dynamodb.put_item().table_name(stack.output("LedgerTableName"));
    let put = put.item("pk", AttributeValue::S("audit".to_owned())).item("sk", AttributeValue::S("watermark".to_owned()));
    let put = put.item("until", AttributeValue::N(began.millis().to_string()));
    put.send().await.expect("the watermark can be set");
}

fn soon() -> Timestamp {
    Timestamp::now().plus(Duration::from_secs(AUDIT_DELAY_SECONDS))
}
