#!/usr/bin/env bash
# Makes the keys, certificates and signatures of the unit tests anew, with openssl alone. The private key `signer.der` (PKCS #8)
# belongs to nobody: tests sign with it. The other private keys are thrown away, and only what they signed is kept.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

message() { printf message; }

openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$work/signer.pem"
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out "$work/weak.pem"
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/p256.pem"
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out "$work/p384.pem"
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out "$work/p521.pem"
openssl genpkey -quiet -algorithm ED25519 -out "$work/ed25519.pem"

openssl pkcs8 -topk8 -nocrypt -in "$work/signer.pem" -outform DER -out signer.der
openssl rsa -in "$work/signer.pem" -RSAPublicKey_out -out signer-pkcs1.pem 2>/dev/null
for name in signer weak p256 p384 p521 ed25519; do openssl pkey -in "$work/$name.pem" -pubout -out "$name.pem"; done

message | openssl dgst -sha1 -sign "$work/signer.pem" -out signer-sha1.sig
message | openssl dgst -sha256 -sign "$work/signer.pem" -out signer-sha256.sig
for hash in sha384 sha512; do message | openssl dgst -$hash -sign "$work/signer.pem" -out signer-$hash.sig; done
pss() { # hash, length of the salt, file
    message | openssl dgst -$1 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:$2 -sign "$work/signer.pem" -out $3
}
for hash in sha256 sha384 sha512; do pss $hash digest signer-pss-$hash.sig; done
pss sha256 0 signer-pss-sha256-salt-0.sig
message | openssl dgst -sha1 -sign "$work/weak.pem" -out weak-sha1.sig
message | openssl dgst -sha1 -sign "$work/p256.pem" -out p256-sha1.sig
message | openssl dgst -sha256 -sign "$work/p256.pem" -out p256.sig
message | openssl dgst -sha512 -sign "$work/p256.pem" -out p256-sha512.sig
message | openssl dgst -sha384 -sign "$work/p384.pem" -out p384.sig
message > "$work/message"
openssl pkeyutl -sign -inkey "$work/ed25519.pem" -rawin -in "$work/message" -out ed25519.sig

# Self-signed certificates of the year 2026.
certificate() { # file, key, common name
    : > "$work/index.txt"
    openssl req -new -key "$work/$2.pem" -subj "/O=Posthouse tests/CN=$3" -out "$work/request.pem"
    printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s\nnew_certs_dir=%s\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n[p]\norganizationName=supplied\ncommonName=supplied\n' \
        "$work/index.txt" "$work" > "$work/ca.conf"
    openssl ca -batch -notext -selfsign -config "$work/ca.conf" -keyfile "$work/$2.pem" -in "$work/request.pem" \
        -startdate 20260101000000Z -enddate 20270101000000Z -out "$1" 2>/dev/null
}
certificate sns-certificate.pem signer sns.amazonaws.com
certificate paypal-certificate.pem signer messageverificationcerts.paypal.com
certificate paypal-sandbox-certificate.pem signer messageverificationcerts.sandbox.paypal.com
certificate two-names-certificate.pem signer messageverificationcerts.paypal.com/CN=example.com
certificate weak-certificate.pem weak sns.amazonaws.com

# What SNS sends, signed in its first version: RSA with SHA-1, which ring verifies but does not make.
topic=arn:aws:sns:eu-central-1:123456789012:posthouse
printf 'Message\nHello\nworld\nMessageId\n22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324\nSubject\nGreeting\nTimestamp\n2026-11-22T06:24:35.000Z\nTopicArn\n%s\nType\nNotification\n' \
    "$topic" > "$work/lines"
signature=$(openssl dgst -sha1 -sign "$work/signer.pem" "$work/lines" | base64 --wrap=0)
cat > sns-notification.json <<JSON
{
  "Type" : "Notification",
  "MessageId" : "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
  "TopicArn" : "$topic",
  "Subject" : "Greeting",
  "Message" : "Hello\nworld",
  "Timestamp" : "2026-11-22T06:24:35.000Z",
  "SignatureVersion" : "1",
  "Signature" : "$signature",
  "SigningCertURL" : "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
  "UnsubscribeURL" : "https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=$topic:c9135db0-26c4-47ec-8998-413945fb5a96"
}
JSON
