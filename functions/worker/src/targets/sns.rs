//! The `sns` destination: the exact body as a message to a topic.

use aws_sdk_sns::types::MessageAttributeValue;
use shared::{config::SnsDestination, time::Timestamp};

use super::{
    Targets,
    message::{ATTRIBUTE_TYPE, Message},
    refusal::Call,
};
use crate::{failure::Failure, parcel::Parcel};

/// Largest message that a topic takes unless it is set to more (`MaximumMessageSize`), in bytes.
const MESSAGE_BYTES_DEFAULT: usize = 256 * 1024;

pub(super) const PUBLISH: Call = Call { service: "SNS", action: "sns:Publish", parameter: "SnsTargets", passing: &[] };

impl Targets {
    /// Publishes one message.
    pub(crate) async fn publish(&self, destination: &SnsDestination, parcel: Parcel<'_>, now: Timestamp) -> Result<(), Failure> {
        let message = Message::of(parcel, destination.message_group, PUBLISH.service)?;
        let bytes = message.bytes();
        let Message { text, attributes, fifo } = message;
        let mut publish = self.sns().publish().topic_arn(&destination.topic_arn).message(text);
        for (name, value) in attributes {
            let value = MessageAttributeValue::builder().data_type(ATTRIBUTE_TYPE).string_value(value).build();
            publish = publish.message_attributes(name, value.map_err(|error| Failure::Permanent(error.to_string()))?);
        }
        if let Some(fifo) = fifo {
            publish = publish.message_group_id(fifo.group_id).message_deduplication_id(fifo.deduplication_id);
        }
        publish.send().await.map(drop).map_err(|error| explained(PUBLISH.failure(&error, now), bytes))
    }
}

/// SNS has one word for a message that is too large and for all else that is wrong with one: only its topic knows what it takes.
fn explained(failure: Failure, bytes: usize) -> Failure {
    match failure {
        Failure::Permanent(reason) if bytes > MESSAGE_BYTES_DEFAULT => Failure::Permanent(format!(
            "{reason}: the message has {bytes} bytes, and a topic takes {MESSAGE_BYTES_DEFAULT} unless its `MaximumMessageSize` is \
             larger"
        )),
        failure => failure,
    }
}

#[cfg(test)]
mod tests {
    use shared::config::{DestinationKind, Gateway};

    use super::{
        super::fake::{Fake, NOW, class, destination, event, parcel},
        *,
    };

    const TAKEN: &str = "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";

    async fn publish(fake: &Fake, name: &str, settings: &str, body: &str) -> Result<(), Failure> {
        let arn = format!("arn:aws:sns:eu-central-1:123456789012:{name}");
        let config = format!("[destinations.orders]\ntype = \"sns\"\ntopic_arn = \"{arn}\"\n{settings}");
        let kind = Gateway::parse(&config, "gateway.toml").unwrap().destinations.into_values().next().unwrap().kind;
        let DestinationKind::Sns(topic) = kind else { panic!() };
        fake.targets().publish(&topic, parcel(&event(), &destination(), body), NOW).await
    }

    fn refusing(status: u16, code: &str) -> Fake {
        Fake::answering(
            status,
            &format!("<ErrorResponse><Error><Code>{code}</Code><Message>hush</Message></Error></ErrorResponse>"),
        )
    }

    #[tokio::test]
    async fn a_message_is_published_with_its_attributes() {
        let fake = Fake::answering(200, TAKEN);
        assert_eq!(publish(&fake, "orders", "", "{}").await, Ok(()));
        let asked = fake.asked_once().body;
        for part in [
            "Action=Publish",
            "TopicArn=arn%3Aaws%3Asns%3Aeu-central-1%3A123456789012%3Aorders",
            "Message=%7B%7D",
            "Name=posthouse-event-type",
            "StringValue=orders%2Fcreate",
            "Name=idempotency-key",
        ] {
            assert!(asked.split('&').any(|found| found.ends_with(part)), "{part} in {asked}");
        }
        assert!(!asked.contains("MessageGroupId"), "{asked}");
    }

    #[tokio::test]
    async fn a_fifo_topic_gets_a_group_and_a_deduplication_id() {
        let fake = Fake::answering(200, TAKEN);
        assert_eq!(publish(&fake, "orders.fifo", "message_group = \"source\"", "{}").await, Ok(()));
        let asked = fake.asked_once().body;
        assert!(asked.contains("&MessageGroupId=shop") && asked.contains("&MessageDeduplicationId="), "{asked}");
    }

    #[tokio::test]
    async fn what_sns_answers_has_its_class_and_is_not_tried_again() {
        for (status, code, expected) in [
            (404, "NotFound", "permanent"),
            (400, "InvalidParameter", "permanent"),
            (403, "AuthorizationError", "auth"),
            (400, "KMSAccessDenied", "auth"),
            (400, "KMSThrottling", "throttled"),
            (400, "Throttling", "throttled"),
            (500, "InternalError", "transient"),
        ] {
            let fake = refusing(status, code);
            let result = publish(&fake, "orders", "", "{}").await;
            assert_eq!(class(&result), expected, "{code}");
            assert!(!format!("{result:?}").contains("hush"), "{result:?}");
            assert_eq!(fake.asked().len(), 1, "{code}");
        }
    }

    #[tokio::test]
    async fn a_refusal_above_what_a_topic_takes_by_itself_says_what_may_be_meant() {
        let fake = Fake::answering(200, TAKEN);
        publish(&fake, "orders", "", "a").await.unwrap();
        let bytes = |body: &str| {
            let (event, destination) = (event(), destination());
            Message::of(parcel(&event, &destination, body), None, "SNS").unwrap().bytes()
        };
        let around = bytes("a") - 1;
        for (length, explained) in [(MESSAGE_BYTES_DEFAULT - around, false), (MESSAGE_BYTES_DEFAULT - around + 1, true)] {
            let body = "a".repeat(length);
            let Err(Failure::Permanent(reason)) = publish(&refusing(400, "InvalidParameter"), "orders", "", &body).await else {
                panic!()
            };
            assert_eq!(reason.contains("takes 262144 unless its `MaximumMessageSize`"), explained, "{reason}");
        }
    }
}
