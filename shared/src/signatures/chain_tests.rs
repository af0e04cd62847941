//! Chains that Apple published, and chains that are made here, each wrong in one way.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use serde_json::Value;

use super::*;

/// Within the periods of all certificates here, but for those that say otherwise.
pub(in crate::signatures) const NOW: Timestamp = Timestamp::from_seconds(1_795_328_675);

const LEAF_OID: &[u64] = &[1, 2, 840, 113_635, 100, 6, 11, 1];
const INTERMEDIATE_OID: &[u64] = &[1, 2, 840, 113_635, 100, 6, 2, 1];

/// A certificate with its key.
pub(in crate::signatures) struct Certified {
    params: CertificateParams,
    pub(in crate::signatures) key: KeyPair,
    der: Vec<u8>,
}

impl Certified {
    fn text(&self) -> String {
        BASE64.encode(&self.der)
    }

    pub(in crate::signatures) fn pem(&self) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", self.text())
    }
}

fn params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    params
}

fn as_issuer(path: Option<u8>) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.is_ca = IsCa::Ca(path.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    }
}

fn mark(params: &mut CertificateParams, oid: &[u64]) {
    params.custom_extensions.push(CustomExtension::from_oid_content(oid, vec![5, 0]));
}

fn root(params: CertificateParams) -> Certified {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let der = params.self_signed(&key).unwrap().der().to_vec();
    Certified { params, key, der }
}

fn issued(by: &Certified, params: CertificateParams) -> Certified {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let der = params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap().der().to_vec();
    Certified { params, key, der }
}

/// Root, intermediate and leaf, marked as Apple's are.
pub(in crate::signatures) fn chain() -> [Certified; 3] {
    chain_with(|_| {}, |_| {}, |_| {})
}

fn chain_with(
    change_root: impl FnOnce(&mut CertificateParams),
    change_intermediate: impl FnOnce(&mut CertificateParams),
    change_leaf: impl FnOnce(&mut CertificateParams),
) -> [Certified; 3] {
    let root = root(params("root", |params| {
        as_issuer(None)(params);
        change_root(params);
    }));
    let intermediate = issued(
        &root,
        params("intermediate", |params| {
            as_issuer(Some(0))(params);
            mark(params, INTERMEDIATE_OID);
            change_intermediate(params);
        }),
    );
    let leaf = issued(
        &intermediate,
        params("leaf", |params| {
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            mark(params, LEAF_OID);
            change_leaf(params);
        }),
    );
    [root, intermediate, leaf]
}

/// As a token has it.
pub(in crate::signatures) fn x5c([root, intermediate, leaf]: &[Certified; 3]) -> Vec<String> {
    vec![leaf.text(), intermediate.text(), root.text()]
}

fn pinned(root: &Certified) -> Root {
    Root::try_from(root.pem()).unwrap()
}

fn proves(chain: &[Certified; 3], oids: Option<&IssuerOids>) -> bool {
    pinned(&chain[0]).leaf_key(&x5c(chain), oids, NOW).is_some()
}

fn apple(name: &str) -> String {
    let all: Value = serde_json::from_str(include_str!("../../testdata/apple-certificates.json")).unwrap();
    all[name].as_str().unwrap().to_owned()
}

#[test]
fn apples_own_chain_leads_to_the_root_that_is_pinned_by_name() {
    let root = Root::try_from("apple-root-ca-g3".to_owned()).unwrap();
    let chain = [apple("realLeaf"), apple("realIntermediate"), BASE64.encode(&root.certificate)];
    // The day that Apple's own tests verify it at.
    let now = Timestamp::from_millis(1_761_962_975_000);
    let key = |chain: &[String], now| root.leaf_key(chain, root.oids(), now);
    assert!(matches!(key(&chain, now), Some(PublicKey::P256(_))));
    // The root may be left out: it is the one that is pinned.
    assert!(key(&chain[..2], now).is_some());
    for other in [&chain[..1], &chain[1..], &chain[2..], &[]] {
        assert_eq!(key(other, now), None, "{other:?}");
    }
    let [leaf, intermediate, _] = chain.clone();
    assert_eq!(key(&[intermediate, leaf], now), None);
    // The leaf is valid to 2027-10-13T17:47:23Z.
    let last = Timestamp::parse_rfc3339("2027-10-13T17:47:23Z").unwrap();
    assert!(key(&chain, last).is_some());
    assert_eq!(key(&chain, last.plus(Duration::from_secs(1))), None);
    let first = Timestamp::parse_rfc3339("2025-09-19T19:44:51Z").unwrap();
    assert!(key(&chain, first).is_some());
    assert_eq!(key(&chain, first.minus(Duration::from_secs(1))), None);
}

/// The cases of Apple's App Store Server Library.
#[test]
fn the_chains_of_apples_tests_get_apples_verdicts() {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", apple("root"));
    let root = Root::try_from(pem).unwrap();
    let now = Timestamp::from_millis(1_761_962_975_000);
    let key = |leaf: &str, intermediate: &str| root.leaf_key(&[apple(leaf), apple(intermediate)], Some(&APPLE_OIDS), now);
    let expected = PublicKey::from_pem(&format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", apple("leafKey")));
    assert!(expected.is_some());
    assert_eq!(key("leaf", "intermediate"), expected);
    assert_eq!(key("leafOfThatIntermediate", "intermediateOfAnotherOid"), None);
    assert_eq!(key("leafOfAnotherOid", "intermediate"), None);
    assert_eq!(key("realLeaf", "realIntermediate"), None);
    let expired = Timestamp::from_millis(2_280_946_846_000);
    assert_eq!(root.leaf_key(&[apple("leaf"), apple("intermediate")], Some(&APPLE_OIDS), expired), None);
    let apples = Root::try_from("apple-root-ca-g3".to_owned()).unwrap();
    assert_eq!(apples.leaf_key(&[apple("leaf"), apple("intermediate"), apple("root")], apples.oids(), now), None);
}

#[test]
fn only_certificates_that_lead_to_the_pinned_root_prove() {
    let (chain, other) = (chain(), chain());
    assert!(proves(&chain, Some(&APPLE_OIDS)));
    assert!(proves(&chain, None));
    // The names are the same: what counts is who signed.
    let root = pinned(&other[0]);
    let [own_root, own_intermediate, own_leaf] = [chain[0].text(), chain[1].text(), chain[2].text()];
    let other_root = other[0].text();
    for forged in [
        vec![own_leaf.clone(), own_intermediate.clone(), own_root.clone()],
        vec![own_leaf.clone(), own_intermediate.clone(), other_root.clone()],
        vec![own_leaf.clone(), other_root.clone()],
        vec![own_leaf.clone(), x5c(&other)[1].clone(), other_root.clone()],
        vec![own_leaf.clone()],
        vec![other_root.clone()],
        vec![other_root.clone(), other_root.clone()],
        vec![],
    ] {
        assert_eq!(root.leaf_key(&forged, None, NOW), None, "{forged:?}");
    }
    for broken in ["", "AA==", "not base64", &own_leaf[4..]] {
        assert_eq!(pinned(&chain[0]).leaf_key(&[broken.to_owned(), own_intermediate.clone()], None, NOW), None, "{broken}");
        assert_eq!(pinned(&chain[0]).leaf_key(&[own_leaf.clone(), broken.to_owned()], None, NOW), None, "{broken}");
    }
}

#[test]
fn no_certificate_that_is_changed_anywhere_proves_or_panics() {
    let chain = chain();
    let root = pinned(&chain[0]);
    for number in 1..3 {
        for position in 0..chain[number].der.len() {
            let mut changed = chain[number].der.clone();
            changed[position] ^= 1 << (position % 8);
            let mut texts = x5c(&chain);
            texts[2 - number] = BASE64.encode(changed);
            assert_eq!(root.leaf_key(&texts, None, NOW), None, "{number} {position}");
        }
    }
}

#[test]
fn each_certificate_counts_within_its_period() {
    let ends = |params: &mut CertificateParams| params.not_after = date_time_ymd(2026, 11, 22);
    let begins = |params: &mut CertificateParams| params.not_before = date_time_ymd(2026, 11, 23);
    assert!(!proves(&chain_with(|_| {}, |_| {}, ends), None));
    assert!(!proves(&chain_with(|_| {}, |_| {}, begins), None));
    assert!(!proves(&chain_with(|_| {}, ends, |_| {}), None));
    assert!(!proves(&chain_with(|_| {}, begins, |_| {}), None));
    assert!(!proves(&chain_with(ends, |_| {}, |_| {}), None));
    assert!(!proves(&chain_with(begins, |_| {}, |_| {}), None));
    let chain = chain();
    let key =
        |seconds: &str| pinned(&chain[0]).leaf_key(&x5c(&chain), None, Timestamp::parse_rfc3339(seconds).unwrap()).is_some();
    assert!(!key("2025-12-31T23:59:59Z"));
    assert!(key("2026-01-01T00:00:00Z"));
    assert!(key("2027-01-01T00:00:00Z"));
    assert!(!key("2027-01-01T00:00:01Z"));
}

#[test]
fn only_certificates_that_may_issue_others_do() {
    // The known mistake: whoever has a certificate for anything issues one for signing.
    assert!(!proves(&chain_with(|_| {}, |params| params.is_ca = IsCa::ExplicitNoCa, |_| {}), None));
    assert!(!proves(&chain_with(|_| {}, |params| params.is_ca = IsCa::NoCa, |_| {}), None));
    assert!(!proves(&chain_with(|_| {}, |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature], |_| {}), None));
    assert!(proves(&chain_with(|_| {}, |params| params.key_usages = Vec::new(), |_| {}), None));
    // And an issuer's certificate does not sign tokens.
    assert!(!proves(&chain_with(|_| {}, |_| {}, |params| as_issuer(None)(params)), None));
    assert!(!proves(&chain_with(|_| {}, |_| {}, |params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]), None));
    assert!(proves(&chain_with(|_| {}, |_| {}, |params| params.key_usages = Vec::new()), None));
    // Purposes that a certificate names beside are nobody's business here.
    assert!(proves(
        &chain_with(|_| {}, |_| {}, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
        None
    ));
}

#[test]
fn a_chain_is_no_longer_than_its_certificates_allow() {
    let longer = |paths: [Option<u8>; 2]| {
        let root = root(params("root", as_issuer(None)));
        let first = issued(&root, params("first", as_issuer(paths[0])));
        let second = issued(&first, params("second", as_issuer(paths[1])));
        let leaf = issued(&second, params("leaf", |params| params.is_ca = IsCa::ExplicitNoCa));
        let texts = [leaf.text(), second.text(), first.text(), root.text()];
        pinned(&root).leaf_key(&texts, None, NOW).is_some()
    };
    assert!(longer([None, None]));
    assert!(longer([Some(1), Some(0)]));
    assert!(!longer([Some(0), Some(0)]));
    assert!(!longer([Some(0), None]));
}

#[test]
fn a_chain_is_looked_at_up_to_its_bound() {
    let chain = chain();
    let repeated = |count: usize| {
        let mut texts = x5c(&chain);
        while texts.len() < count {
            texts.insert(1, chain[1].text());
        }
        pinned(&chain[0]).leaf_key(&texts, None, NOW).is_some()
    };
    assert!(repeated(X5C_CERTIFICATES_MAX));
    assert!(!repeated(X5C_CERTIFICATES_MAX + 1));
}

#[test]
fn certificates_must_be_marked_where_marks_are_asked_for() {
    let unmarked = |params: &mut CertificateParams| params.custom_extensions.clear();
    let other = |params: &mut CertificateParams| {
        params.custom_extensions.clear();
        mark(params, &[1, 2, 840, 113_635, 100, 6, 11, 2]);
    };
    let leaf_only = IssuerOids { leaf: APPLE_OIDS.leaf, intermediate: None };
    for change in [unmarked, other] {
        assert!(!proves(&chain_with(|_| {}, |_| {}, change), Some(&APPLE_OIDS)));
        assert!(!proves(&chain_with(|_| {}, change, |_| {}), Some(&APPLE_OIDS)));
        assert!(proves(&chain_with(|_| {}, change, |_| {}), Some(&leaf_only)));
        assert!(proves(&chain_with(|_| {}, change, change), None));
    }
    // Marks on another certificate of the chain do not count.
    assert!(!proves(&chain_with(|params| mark(params, INTERMEDIATE_OID), unmarked, |_| {}), Some(&APPLE_OIDS)));
    assert!(!proves(&chain_with(|_| {}, |params| mark(params, LEAF_OID), unmarked), Some(&APPLE_OIDS)));
    // A leaf that the root itself issued has no intermediate.
    let root = root(params("root", as_issuer(None)));
    let leaf = issued(
        &root,
        params("leaf", |params| {
            params.is_ca = IsCa::ExplicitNoCa;
            mark(params, LEAF_OID);
        }),
    );
    let texts = [leaf.text(), root.text()];
    assert!(pinned(&root).leaf_key(&texts, Some(&leaf_only), NOW).is_some());
    assert!(pinned(&root).leaf_key(&texts, Some(&APPLE_OIDS), NOW).is_none());
}

#[test]
fn a_root_is_a_certificate() {
    let leaf_key = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----";
    for text in
        ["", "apple-root-ca-g4", "APPLE-ROOT-CA-G3", leaf_key, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
    {
        let error = Root::try_from(text.to_owned()).unwrap_err();
        assert!(error.contains("is no root"), "{text}: {error}");
    }
    assert_eq!(
        hex::encode(ring::digest::digest(
            &ring::digest::SHA256,
            &Root::try_from("apple-root-ca-g3".to_owned()).unwrap().certificate
        )),
        "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179"
    );
}
