//! The `sqs` destination: the exact body as a message.

use aws_sdk_sqs::types::MessageAttributeValue;
use shared::{config::SqsDestination, time::Timestamp};

use super::{
    Targets,
    message::{ATTRIBUTE_TYPE, Message},
    refusal::Call,
};
use crate::{failure::Failure, parcel::Parcel};

pub(super) const SEND_MESSAGE: Call = Call { service: "SQS", action: "sqs:SendMessage", parameter: "SqsTargets", passing: &[] };

impl Targets {
    /// Sends one message.
    pub(crate) async fn send_message(
        &self,
        destination: &SqsDestination,
        parcel: Parcel<'_>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Message { text, attributes, fifo } = Message::of(parcel, destination.message_group, SEND_MESSAGE.service)?;
        let mut send = self.sqs().send_message().queue_url(&destination.queue_url).message_body(text);
        for (name, value) in attributes {
            let value = MessageAttributeValue::builder().data_type(ATTRIBUTE_TYPE).string_value(value).build();
            send = send.message_attributes(name, value.map_err(|error| Failure::Permanent(error.to_string()))?);
        }
        if let Some(fifo) = fifo {
            send = send.message_group_id(fifo.group_id).message_deduplication_id(fifo.deduplication_id);
        }
        send.send().await.map(drop).map_err(|error| SEND_MESSAGE.failure(&error, now))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::config::{DestinationKind, Gateway};

    use super::{
        super::fake::{Fake, NOW, class, destination, event, parcel},
        *,
    };

    async fn send(fake: &Fake, name: &str, settings: &str) -> Result<(), Failure> {
        let url = format!("https://sqs.eu-central-1.amazonaws.com/123456789012/{name}");
        let config = format!("[destinations.orders]\ntype = \"sqs\"\nqueue_url = \"{url}\"\n{settings}");
        let kind = Gateway::parse(&config, "gateway.toml").unwrap().destinations.into_values().next().unwrap().kind;
        let DestinationKind::Sqs(queue) = kind else { panic!() };
        fake.targets().send_message(&queue, parcel(&event(), &destination(), "{}"), NOW).await
    }

    #[tokio::test]
    async fn a_message_is_sent_with_its_attributes() {
        let fake = Fake::answering(200, r#"{"MessageId":"1"}"#);
        assert_eq!(send(&fake, "orders", "").await, Ok(()));
        let asked = fake.asked_once();
        assert_eq!(asked.header("x-amz-target"), Some("AmazonSQS.SendMessage"));
        let text = |value: &str| json!({"DataType": "String", "StringValue": value});
        let expected = json!({
            "QueueUrl": "https://sqs.eu-central-1.amazonaws.com/123456789012/orders",
            "MessageBody": "{}",
            "MessageAttributes": {
                "posthouse-id": text("shop#%C3%A9%207"),
                "posthouse-source": text("shop"),
                "posthouse-event-type": text("orders/create"),
                "idempotency-key": text("shop#%C3%A9%207#orders"),
                "content-type": text("application/json"),
            },
        });
        assert_eq!(asked.json(), expected);
    }

    #[tokio::test]
    async fn a_fifo_queue_gets_a_group_and_a_deduplication_id() {
        let fake = Fake::answering(200, r#"{"MessageId":"1"}"#);
        assert_eq!(send(&fake, "orders.fifo", "message_group = \"source\"").await, Ok(()));
        let asked = fake.asked_once().json();
        assert_eq!(asked["MessageGroupId"], "shop");
        assert_eq!(asked["MessageDeduplicationId"].as_str().map(str::len), Some(64));
        assert_ne!(asked["MessageDeduplicationId"], Value::Null);
    }

    #[tokio::test]
    async fn what_sqs_answers_has_its_class_and_is_not_tried_again() {
        for (status, code, expected) in [
            (400, "com.amazonaws.sqs#QueueDoesNotExist", "permanent"),
            (400, "com.amazonaws.sqs#InvalidMessageContents", "permanent"),
            (400, "com.amazonaws.sqs#RequestThrottled", "throttled"),
            (403, "com.amazon.coral.service#AccessDeniedException", "auth"),
            (400, "com.amazonaws.sqs#KmsAccessDenied", "auth"),
            (500, "InternalFailure", "transient"),
        ] {
            let fake = Fake::answering(status, &json!({"__type": code, "message": "hush"}).to_string());
            let result = send(&fake, "orders", "").await;
            assert_eq!(class(&result), expected, "{code}");
            assert!(!format!("{result:?}").contains("hush"), "{result:?}");
            assert_eq!(fake.asked().len(), 1, "{code}");
        }
    }
}
