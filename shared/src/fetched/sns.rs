//! Amazon SNS: the certificate that a message names, the lines that SNS signs, and the confirmation of a subscription.
//!
//! Format: <https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html>.

use super::{
    FetchError, Fetched, read_certificate,
    transport::{Request, Transport},
};
use crate::{json::Value, location::Places, signatures::Refusal, time::Timestamp};

const CERTIFICATE_PATH: &str = "SimpleNotificationService-";
const CERTIFICATE_HEX_DIGITS: usize = 32;
/// Longest name of a region; the longest that there is has 14 characters.
const REGION_CHARS_MAX: usize = 32;
/// Longest token of a confirmation. SNS's have some 200 characters.
const TOKEN_CHARS_MAX: usize = 1024;

const NOTIFICATION: [&str; 6] = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"];
const CONFIRMATION: [&str; 7] = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];

/// Whether the signature of every kind of message covers this place of it. Attributes and the URL to unsubscribe are not covered.
pub fn is_signed(pointer: &str) -> bool {
    matches!(pointer, "/Message" | "/MessageId" | "/Timestamp" | "/TopicArn" | "/Type")
}

/// The places of a message that verification looks at, as JSON pointers.
pub const POINTERS: [&str; 10] = [
    "/Message",
    "/MessageId",
    "/SigningCertURL",
    "/Subject",
    "/SubscribeURL",
    "/Timestamp",
    "/Token",
    "/TopicArn",
    "/Type",
    "/SignatureVersion",
];

/// Where a certificate of SNS is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CertificateUrl(String);

impl CertificateUrl {
    /// `SigningCertURL` of the message in the body.
    pub(super) fn named_by(places: &Places<'_>) -> Result<Self, Refusal> {
        let url = places.json_once("/SigningCertURL").map_err(|_| Refusal::MalformedSignature)?;
        let (url, _) = url.filter(|url| url.is_string()).and_then(Value::text).ok_or(Refusal::MissingSignature)?;
        let url = Self::parse(&url).ok_or(Refusal::UntrustedKey)?;
        // At the topic's own region: else anybody could name hosts that are not there, and have us ask for them.
        let topic = places.json_once("/TopicArn").ok().flatten().filter(|topic| topic.is_string()).and_then(Value::text);
        let region = topic.as_ref().and_then(|(arn, _)| arn.split(':').nth(3)).unwrap_or_default();
        let host = pinned(&url.0).map_or("", |(host, _)| host);
        match host.strip_prefix("sns.").and_then(|rest| rest.split('.').next()) {
            Some(of_host) if of_host == region => Ok(url),
            _ => Err(Refusal::UntrustedKey),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (_, path) = pinned(text)?;
        let name = path.strip_prefix(CERTIFICATE_PATH)?.strip_suffix(".pem")?;
        let hex = name.len() == CERTIFICATE_HEX_DIGITS && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Self(text.to_owned()))
    }

    pub(super) async fn fetch(&self, transport: &Transport, now: Timestamp) -> Result<Fetched, FetchError> {
        let body = transport.fetch(Request::Get(&self.0)).await?.success()?;
        Ok(Fetched::from_certificate(&read_certificate(&body, now)?, now))
    }
}

/// The lines that SNS signs: name and value, one a line, of the fields that its kind of message has, in their order; a subject only
/// if there is one. `None` for what is no such message.
///
/// SNS signs for everybody. Each value ends with its line, and only a message may have lines of its own: else whoever publishes
/// could write lines that read as the fields after it, and have the same signature stand for another message id or another subject.
/// With all other values of one line each, and the last line the kind, the text falls apart in one way alone. (SNS takes no subject
/// with a line break.)
///
/// A field that stands there twice is none: whoever reads the message later may take the other one. Nor is one that is not Unicode,
/// since several texts would be signed alike.
pub fn sns_signed_content(places: &Places<'_>) -> Option<String> {
    let field = |name: &str| places.json_once(&format!("/{name}")).ok().flatten().filter(|value| !value.is_null());
    let text = |value: Value<'_>| {
        let (text, is_exact) = value.text().filter(|_| value.is_string())?;
        is_exact.then(|| text.into_owned())
    };
    let fields: &[&str] = match text(field("Type")?)?.as_str() {
        "Notification" => &NOTIFICATION,
        "SubscriptionConfirmation" | "UnsubscribeConfirmation" => &CONFIRMATION,
        _ => return None,
    };
    let mut content = String::new();
    for name in fields {
        if *name == "Subject" && field(name).is_none() {
            continue;
        }
        let value = text(field(name)?).filter(|value| *name == "Message" || !value.contains('\n'))?;
        for line in [name, value.as_str()] {
            content.push_str(line);
            content.push('\n');
        }
    }
    Some(content)
}

/// The URL that confirms the subscription to that topic, if `subscribe_url` is it. Written anew from its parts, so that nothing
/// else of it is fetched.
pub(super) fn confirmation_url(subscribe_url: &str, topic_arn: &str) -> Option<String> {
    let (host, query) = pinned(subscribe_url)?;
    let mut parameters: Vec<_> = form_urlencoded::parse(query.strip_prefix('?')?.as_bytes()).collect();
    parameters.sort();
    let [(action, confirm), (token, value), (topic, arn)] = parameters.as_slice() else { return None };
    let names = [action.as_ref(), token.as_ref(), topic.as_ref()] == ["Action", "Token", "TopicArn"];
    let is_token = (1..=TOKEN_CHARS_MAX).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !names || confirm != "ConfirmSubscription" || !is_token || arn != topic_arn {
        return None;
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&parameters).finish();
    Some(format!("https://{host}/?{query}"))
}

/// Host and path, without its first slash, of a URL at SNS.
fn pinned(url: &str) -> Option<(&str, &str)> {
    let (host, path) = url.strip_prefix("https://")?.split_once('/')?;
    let label = host.strip_prefix("sns.")?;
    let region = label.strip_suffix(".amazonaws.com").or_else(|| label.strip_suffix(".amazonaws.com.cn"))?;
    is_region(region).then_some((host, path))
}

/// As `eu-central-1`. Not every label will do: a bucket of S3 named `sns` would have the host `sns.s3-eu-west-1.amazonaws.com`.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let [partition, area @ .., number] = parts.as_slice() else { return false };
    let letters = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    label.len() <= REGION_CHARS_MAX
        && partition.len() == 2
        && letters(partition)
        && !area.is_empty()
        && area.iter().all(letters)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use http::Method;
    use ring::{
        rand::SystemRandom,
        signature::{RSA_PKCS1_SHA256, RsaKeyPair},
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        fetched::{FETCHES_PER_MINUTE_MAX, FetchedKeys, KeyOrigin, transport::canned::Canned},
        signatures::{
            UnverifiedWebhook,
            public_key::{PublicKey, SignatureAlgorithm},
        },
    };

    const NOW: Timestamp = Timestamp::from_seconds(1_780_000_000);
    /// Made with openssl: see generate.sh beside it.
    const NOTIFICATION: &str = include_str!("../../testdata/keys/sns-notification.json");
    const CERTIFICATE: &str = include_str!("../../testdata/keys/sns-certificate.pem");
    const SIGNER: &[u8] = include_bytes!("../../testdata/keys/signer.der");
    const ARN: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";

    fn sns_signed_content(message: &Value) -> Option<String> {
        signed_content_of(&message.to_string())
    }

    fn signed_content_of(body: &str) -> Option<String> {
        let webhook = UnverifiedWebhook::new(Method::POST, "https://h/", &[], body.as_bytes().to_vec());
        super::sns_signed_content(&Places::new(&webhook))
    }

    fn wanted(body: &str) -> Result<String, Refusal> {
        let webhook = UnverifiedWebhook::new(Method::POST, "https://h/", &[], body.as_bytes().to_vec());
        CertificateUrl::named_by(&Places::new(&webhook)).map(|url| url.0)
    }

    #[test]
    fn only_certificates_of_sns_are_wanted() {
        let at = |url: &str, region: &str| {
            let topic = format!("arn:aws:sns:{region}:123456789012:t");
            wanted(&json!({"SigningCertURL": url, "TopicArn": topic}).to_string())
        };
        let check = |url: &str| {
            let region = url.split_once("sns.").and_then(|(_, rest)| rest.split('.').next()).unwrap_or_default();
            at(url, region)
        };
        let hex = "f3ecfb7224c7233fe7bb5f59f96de52f";
        let good = format!("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-{hex}.pem");
        assert_eq!(check(&good), Ok(good.clone()));
        // Nobody makes us ask a host in a region that is not there.
        assert_eq!(at(&good, "us-east-2"), Err(Refusal::UntrustedKey));
        assert_eq!(wanted(&json!({"SigningCertURL": good}).to_string()), Err(Refusal::UntrustedKey));
        for region in ["us-gov-west-1.amazonaws.com", "cn-northwest-1.amazonaws.com.cn", "ap-southeast-12.amazonaws.com"] {
            let url = good.replace("us-east-1.amazonaws.com", region);
            assert_eq!(check(&url), Ok(url.clone()), "{url}");
        }
        for (from, to) in [
            ("https://", "http://"),
            ("https://", "HTTPS://"),
            ("https://", "//"),
            ("https://", "https://user@"),
            ("https://", "https://sns.us-east-1.amazonaws.com@"),
            ("https://", "https://evil/"),
            ("https://", " https://"),
            ("sns.us", "SNS.us"),
            ("sns.us", "sqs.us"),
            ("sns.us", "evil-sns.us"),
            ("sns.us", "evil.sns.us"),
            // Buckets named `sns`.
            ("sns.us-east-1", "sns.s3"),
            ("sns.us-east-1", "sns.s3-us-west-2"),
            ("sns.us-east-1", "sns.s3-external-1"),
            ("sns.us-east-1", "sns.us-east-1.evil"),
            ("sns.us-east-1", "sns.us-east-123"),
            ("sns.us-east-1", "sns.us-east-"),
            ("sns.us-east-1", "sns.us-1"),
            ("sns.us-east-1", "sns.us--1"),
            ("sns.us-east-1", "sns.usa-east-1"),
            ("sns.us-east-1", "sns.us-East-1"),
            ("sns.us-east-1", "sns."),
            ("sns.us-east-1", "sns"),
            ("sns.us-east-1", "sns.us-east-1\\@evil"),
            ("amazonaws.com", "amazonaws.com.evil.org"),
            ("amazonaws.com", "amazonaws.com:443"),
            ("amazonaws.com", "amazonaws.com."),
            ("amazonaws.com", "amazonaws.com.cn.evil.org"),
            ("amazonaws.com", "amazonaws.org"),
            (".pem", ".pem?a=b"),
            (".pem", ".pem#a"),
            (".pem", ".pem/"),
            (".pem", ".pem\n"),
            (".pem", ".crt"),
            (".pem", ""),
            ("/Simple", "/a/../Simple"),
            ("/Simple", "//Simple"),
            ("/Simple", "/%2e/Simple"),
            ("/Simple", "?/Simple"),
            (hex, "f3ecfb7224c7233fe7bb5f59f96de52"),
            (hex, "f3ecfb7224c7233fe7bb5f59f96de52ff"),
            (hex, "F3ECFB7224C7233FE7BB5F59F96DE52F"),
            (hex, "g3ecfb7224c7233fe7bb5f59f96de52f"),
            (hex, "../../../../../../../../../../.."),
            (&good, ""),
        ] {
            let url = good.replacen(from, to, 1);
            assert_ne!(url, good);
            assert_eq!(check(&url), Err(Refusal::UntrustedKey), "{url}");
        }
        let longest = format!("us-{}-1", "a".repeat(REGION_CHARS_MAX - 5));
        assert!(check(&good.replace("us-east-1", &longest)).is_ok());
        assert!(check(&good.replace("us-east-1", &longest.replace("us-", "us-a"))).is_err());
        assert_eq!(wanted(r#"{"SigningCertURL":7}"#), Err(Refusal::MissingSignature));
        assert_eq!(wanted("{}"), Err(Refusal::MissingSignature));
        assert_eq!(wanted("[]"), Err(Refusal::MissingSignature));
        assert_eq!(wanted("nonsense"), Err(Refusal::MalformedSignature));
    }

    #[tokio::test]
    async fn a_message_is_proven_with_the_certificate_that_it_names() {
        let canned = Canned::always(200, CERTIFICATE);
        let keys = FetchedKeys::new(&canned.config());
        let webhook = UnverifiedWebhook::new(Method::POST, "https://h/", &[], NOTIFICATION.as_bytes().to_vec());
        let key = keys
            .get(&KeyOrigin::AwsSns.wanted(&Places::new(&webhook), |_| Err(Refusal::UntrustedKey)).unwrap(), None, NOW)
            .await
            .unwrap();
        let url = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem";
        assert_eq!(canned.last(), format!("GET {url} "));

        let mut message: Value = serde_json::from_str(NOTIFICATION).unwrap();
        let signature =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, message["Signature"].as_str().unwrap()).unwrap();
        let verified = |message: &Value| {
            let content = sns_signed_content(message).unwrap();
            key.verify(SignatureAlgorithm::RsaSha1, content.as_bytes(), &signature)
        };
        assert!(verified(&message));
        message["TopicArn"] = json!("arn:aws:sns:eu-central-1:123456789012:another");
        assert!(!verified(&message));
    }

    #[tokio::test]
    async fn what_is_no_certificate_is_no_key() {
        for body in ["", "<html>", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"] {
            let keys = FetchedKeys::new(&Canned::always(200, body).config());
            let webhook = UnverifiedWebhook::new(Method::POST, "https://h/", &[], NOTIFICATION.as_bytes().to_vec());
            let key = keys
                .get(&KeyOrigin::AwsSns.wanted(&Places::new(&webhook), |_| Err(Refusal::UntrustedKey)).unwrap(), None, NOW)
                .await;
            assert!(matches!(key, Err(FetchError::Unavailable(_))), "{key:?}");
        }
    }

    #[test]
    fn the_documented_lines_are_signed() {
        let mut message = json!({"Type": "Notification", "MessageId": "i", "TopicArn": ARN, "Subject": "s", "Message": "a\nb\n",
            "Timestamp": "t", "Token": "not signed", "SubscribeURL": "not signed", "Signature": "x"});
        let expected = format!("Message\na\nb\n\nMessageId\ni\nSubject\ns\nTimestamp\nt\nTopicArn\n{ARN}\nType\nNotification\n");
        assert_eq!(sns_signed_content(&message), Some(expected.clone()));
        for absent in [Value::Null, json!("")] {
            message["Subject"] = absent;
            let line = if message["Subject"].is_null() { "" } else { "Subject\n\n" };
            assert_eq!(sns_signed_content(&message), Some(expected.replace("Subject\ns\n", line)));
        }
        for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
            message["Type"] = json!(kind);
            let expected = format!(
                "Message\na\nb\n\nMessageId\ni\nSubscribeURL\nnot signed\nTimestamp\nt\nToken\nnot signed\nTopicArn\n{ARN}\nType\n{kind}\n"
            );
            assert_eq!(sns_signed_content(&message), Some(expected));
        }
    }

    #[test]
    fn what_is_no_message_of_sns_has_no_signed_lines() {
        let good = json!({"Type": "Notification", "MessageId": "i", "TopicArn": ARN, "Message": "m", "Timestamp": "t"});
        assert!(sns_signed_content(&good).is_some());
        for (name, value) in [
            ("Type", json!("notification")),
            ("Type", json!("Notification\n")),
            ("Type", json!("SubscriptionConfirmation")),
            ("Type", Value::Null),
            ("Message", Value::Null),
            ("Message", json!({"a": 1})),
            ("MessageId", json!(7)),
            ("TopicArn", Value::Null),
            ("Timestamp", Value::Null),
            ("Subject", json!(7)),
        ] {
            let mut message = good.clone();
            message[name] = value;
            assert_eq!(sns_signed_content(&message), None, "{message}");
        }
        for message in [json!([]), json!("Notification"), Value::Null] {
            assert_eq!(sns_signed_content(&message), None);
        }
        // Who reads the message later may take the other one, or another character.
        let repeated = good.to_string().replacen('{', r#"{"Message":"forged","#, 1);
        assert_eq!(signed_content_of(&repeated), None);
        assert_eq!(signed_content_of(&good.to_string().replace(r#":"m""#, r#":"m\ud83c""#)), None);
    }

    /// Anybody may publish to a topic of their own, with any lines in the message, and SNS signs it with the key that it signs
    /// everything with.
    #[test]
    fn lines_that_a_publisher_wrote_do_not_read_as_fields() {
        let pair = RsaKeyPair::from_pkcs8(SIGNER).unwrap();
        let key = PublicKey::Rsa(ring::signature::KeyPair::public_key(&pair).as_ref().to_vec());
        let mut signature = vec![0; pair.public().modulus_len()];
        let mut sns_signs = |message: &Value| {
            let content = sns_signed_content(message).unwrap();
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), content.as_bytes(), &mut signature).unwrap();
            (content, signature.clone())
        };
        let theirs = "arn:aws:sns:us-east-1:666666666666:theirs";
        let published = json!({"Type": "Notification", "MessageId": "real", "TopicArn": theirs, "Timestamp": "t",
            "Message": format!("m\nMessageId\nforged\nSubject\ns\nTimestamp\nt0\nTopicArn\n{ARN}\nType\nNotification")});
        let (signed, signature) = sns_signs(&published);
        assert!(key.verify(SignatureAlgorithm::RsaSha256, signed.as_bytes(), &signature));
        // Each of these, written out line by line, gives the text that SNS signed.
        let swallowing = |field: &str| {
            let mut forged = json!({"Type": "Notification", "Message": "m", "MessageId": "forged", "Subject": "s", "Timestamp": "t0",
                "TopicArn": ARN});
            let (_, after) = signed.split_once(&format!("\n{field}\n")).unwrap();
            let rest = match field {
                "Type" => after.strip_suffix('\n').unwrap(),
                // Up to the last field of that name's successor, which stays a field.
                "TopicArn" => after.strip_suffix("\nType\nNotification\n").unwrap(),
                "Timestamp" => after.strip_suffix(&format!("\nTopicArn\n{theirs}\nType\nNotification\n")).unwrap(),
                _ => after.strip_suffix(&format!("\nTimestamp\nt\nTopicArn\n{theirs}\nType\nNotification\n")).unwrap(),
            };
            forged[field] = json!(rest);
            if matches!(field, "Timestamp" | "Subject") {
                forged["TopicArn"] = json!(theirs);
            }
            if field == "Subject" {
                forged["Timestamp"] = json!("t");
            }
            forged
        };
        for field in ["Type", "TopicArn", "Timestamp", "Subject"] {
            let forged = swallowing(field);
            let naive: String =
                super::NOTIFICATION.iter().map(|name| format!("{name}\n{}\n", forged[*name].as_str().unwrap())).collect();
            assert_eq!(naive, signed, "the attack by {field} is one");
            assert_eq!(sns_signed_content(&forged), None, "{field}");
        }
        // The one reading that is left is the true one.
        assert_eq!(sns_signed_content(&published), Some(signed));
    }

    #[tokio::test]
    async fn a_subscription_is_confirmed_at_sns_and_for_its_topic_alone() {
        let good = format!("https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn={ARN}&Token=2336412f37");
        let confirm = async |url: String| {
            let canned = Canned::always(200, "<ConfirmSubscriptionResponse/>");
            let result = FetchedKeys::new(&canned.config()).confirm(&url, ARN, NOW).await;
            (result, canned)
        };
        let (result, canned) = confirm(good.clone()).await;
        assert_eq!(result, Ok(()));
        let arn = ARN.replace(':', "%3A");
        let url = format!("https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37&TopicArn={arn}");
        assert_eq!(canned.last(), format!("GET {url} "));
        assert_eq!(confirm(url).await.0, Ok(()));
        let longest = "a".repeat(TOKEN_CHARS_MAX);
        assert_eq!(confirm(good.replace("2336412f37", &longest)).await.0, Ok(()));
        let longer = format!("{longest}a");
        for (from, to) in [
            ("https", "http"),
            ("sns.us-west-2", "sqs.us-west-2"),
            ("sns.us-west-2", "sns.s3-us-west-2"),
            ("amazonaws.com", "amazonaws.com.evil.org"),
            ("amazonaws.com", "amazonaws.com:8080"),
            (".com/?", ".com/a?"),
            (".com/?", ".com?"),
            (".com/?", ".com//?"),
            (".com/?", ".com/#?"),
            ("ConfirmSubscription", "Unsubscribe"),
            ("ConfirmSubscription", "confirmsubscription"),
            ("Action=", "action="),
            ("MyTopic", "Other"),
            ("MyTopic", "MyTopic "),
            ("Token=2336412f37", "Token="),
            ("Token=2336412f37", ""),
            ("Token=2336412f37", "Token=a&Token=b"),
            ("Token=2336412f37", "Token=a&Endpoint=b"),
            ("Token=2336412f37", "Token=a#b"),
            ("Token=2336412f37", "Token=a%0d%0a"),
            ("2336412f37", longer.as_str()),
            ("2336412f37", "a-b"),
        ] {
            let url = good.replacen(from, to, 1);
            assert_ne!(url, good);
            let (result, canned) = confirm(url.clone()).await;
            assert!(matches!(result, Err(FetchError::Refused(_))), "{url}: {result:?}");
            assert_eq!(canned.count(), 0, "{url}");
        }
    }

    #[tokio::test]
    async fn a_confirmation_that_fails_says_so_and_they_are_bounded_too() {
        let url = format!("https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn={ARN}&Token=2336412f37");
        let canned = Canned::always(403, "");
        let keys = FetchedKeys::new(&canned.config());
        assert!(matches!(keys.confirm(&url, ARN, NOW).await, Err(FetchError::Unavailable(_))));
        canned.answer(302, "");
        assert!(matches!(keys.confirm(&url, ARN, NOW).await, Err(FetchError::Unavailable(_))));
        canned.answer(204, "");
        for _ in 2..FETCHES_PER_MINUTE_MAX {
            assert_eq!(keys.confirm(&url, ARN, NOW).await, Ok(()));
        }
        assert_eq!(keys.confirm(&url, ARN, NOW).await, Err(FetchError::Budget));
        assert_eq!(canned.count(), FETCHES_PER_MINUTE_MAX);
    }
}
