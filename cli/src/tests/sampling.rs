//! `posthouse check` with expressions, contracts and samples.

use std::{fs, path::PathBuf};

use super::{Said, at_root, file, name, posthouse};

const FOLDER: &str = "cli/testdata/routes";
const SMALL: &str = r#"{"id":"1","type":"order.paid","data":{"number":"A-1","amount":5,"version":1}}"#;

/// The documented configuration with a change.
fn changed(case: &str, from: &str, to: &str) -> PathBuf {
    at_root();
    let text = fs::read_to_string(format!("{FOLDER}/gateway.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    let contract = file(&format!("{case}.json"), fs::read(format!("{FOLDER}/contracts/order.json")).unwrap());
    let beside = contract.file_name().unwrap().to_str().unwrap();
    file(&format!("{case}.toml"), text.replace(from, to).replace("contracts/order.json", beside))
}

async fn check(config: &str, args: &[&str], body: &str) -> Said {
    posthouse(&[&["check", config], args].concat(), "", body.as_bytes()).await
}

#[tokio::test]
async fn an_expression_or_schema_that_is_none_is_told_with_its_place() {
    let broken = changed("broken", ".data.amount >= 100", ".data.amount >=");
    check(name(&broken), &[], "").await.is(1, ":20:10: jq, line 1, column 16: expected term, found the end");
    let clock = changed("clock", ".data.version", "now");
    check(name(&clock), &[], "").await.is(1, ": jq, line 1, column 1: there is no function `now/0`: ");
    let missing = changed("missing", "contracts/order.json", "no-such.json");
    check(name(&missing), &[], "").await.is(1, "no-such.json");
}

#[tokio::test]
async fn a_sample_is_told_what_becomes_of_it() {
    let config = format!("{FOLDER}/gateway.toml");
    let said = check(&config, &["--sample", "shop=-"], SMALL).await;
    said.is(0, "shop=-: type order.paid, event id 1\n  contract    kept\n  filter      to billing: .data.amount >= 100: false\n");
    said.is(0, "  billing: skipped, since no filter lets it through\n  archive: sent as it is\n");
    let other = check(&config, &["--sample", "shop=-", "--type", "refund"], SMALL).await;
    other.is(0, "shop=-: type refund, event id 1\n  archive: sent as it is\n");
    let broken = check(&config, &["--sample", "shop=-"], "no JSON").await;
    broken.is(0, ": type unknown, event id ");
    broken.is(0, "  type        not found at json:/type: say it with --type\n  archive: sent as it is\n");
    let contract = check(&config, &["--sample", "shop=-", "--type", "order.paid"], "no JSON").await;
    contract.is(1, "  contract    the body is not JSON (line 1, column 2)");
}

#[tokio::test]
async fn an_expression_that_fails_and_an_event_that_goes_nowhere_are_told() {
    let failing = changed("failing", ".data.amount * 100", ".data.number * {}");
    let large = SMALL.replace(":5", ":500");
    let said = check(name(&failing), &["--sample", "shop=-"], &large).await;
    said.is(
        1,
        "  billing: dead, since the map of its route fails: cannot calculate a string * an object\n  archive: sent as it is\n",
    );
    let order = check(name(&failing), &["--sample", "shop=-"], &large.replace("\"A-1\"", "\"\"")).await;
    order.is(1, "  billing: dead, since the order.key of its route gives an empty text");
    let nowhere = changed("nowhere", "source = \"shop\"\ndestination", "source = \"shop\"\ntypes = [\"a\"]\ndestination");
    let said = check(name(&nowhere), &["--sample", "shop=-", "--type", "b"], SMALL).await;
    said.is(0, "  no route takes it: it would be recorded and go nowhere\n");
}

#[tokio::test]
async fn several_samples_are_told_and_one_that_is_wrong_is_enough() {
    let config = format!("{FOLDER}/gateway.toml");
    let (good, bad) = (format!("shop={FOLDER}/order-paid.json"), format!("shop={FOLDER}/order-broken.json"));
    let said = check(&config, &["--sample", &bad, "--sample", &good], "").await;
    said.is(1, "contract    does not keep its contract at /data/amount: type\n");
    said.is(1, "archive: sent as it is\n");
    check(&config, &["--sample", &good, "--sample", &good], "").await.is(0, ": ok\n");
}

#[tokio::test]
async fn a_sample_that_is_not_there_or_of_no_source_is_asked_for() {
    let config = format!("{FOLDER}/gateway.toml");
    check(&config, &["--sample", "shop=no-such-file"], "").await.is(2, "no-such-file cannot be read");
    check(&config, &["--sample", "shoe=-"], "").await.is(2, "gateway.toml has no source `shoe`");
    for wrong in ["shop", "shop=", "Shop=-"] {
        check(&config, &["--sample", wrong], "").await.is(2, "--sample");
    }
    check(&config, &["--type", "a"], "").await.is(2, "--sample");
}
