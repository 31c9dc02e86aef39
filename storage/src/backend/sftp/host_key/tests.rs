use russh::keys::{
    Algorithm, PrivateKey,
    key::safe_rng,
    ssh_key::certificate::{Builder, Certificate as Signed},
};

use super::*;

const NOW: u64 = 1_800_000_000;

fn new_key() -> PrivateKey {
    PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()
}

fn listed(key: &PrivateKey) -> Listed {
    Listed { algorithm: "ssh-ed25519".into(), blob: blob(key.public_key()).unwrap(), at: "file:1".into() }
}

fn trust(known: KnownHost) -> HostTrust {
    HostTrust { place: SftpPlace::new("Host.example", "/x"), known, accepted: None }
}

fn certified(key: &PrivateKey, authority: &PrivateKey, kind: CertType, with: impl FnOnce(&mut Builder)) -> Signed {
    let mut builder =
        Builder::new_with_random_nonce(&mut safe_rng(), key.public_key().key_data().clone(), NOW - 10, NOW + 10)
            .unwrap();
    builder.cert_type(kind).unwrap();
    with(&mut builder);
    builder.sign(authority).unwrap()
}

fn for_host(builder: &mut Builder) {
    builder.valid_principal("host.example").unwrap();
}

#[test]
fn a_certificate_counts_when_type_principal_time_and_signature_are_right() {
    let (key, authority, other) = (new_key(), new_key(), new_key());
    let trust = trust(KnownHost { authorities: vec![listed(&authority)], ..KnownHost::default() });
    let good = certified(&key, &authority, CertType::Host, for_host);
    let check = |certificate: &Signed, now| trust.check(&PublicKeyOrCertificate::Certificate(certificate.clone()), now);
    assert_eq!(check(&good, NOW), Ok(()));
    let why = |certificate: &Signed, now| match check(certificate, now).unwrap_err() {
        HostKeyError::Certificate { why, .. } => why,
        error => panic!("{error}"),
    };
    assert!(why(&good, NOW - 11).contains("not valid yet"));
    assert!(why(&good, NOW + 10).contains("expired"));
    assert!(why(&certified(&key, &authority, CertType::User, for_host), NOW).contains("users"));
    let elsewhere = certified(&key, &authority, CertType::Host, |builder| {
        builder.valid_principal("other.example").unwrap();
    });
    assert!(why(&elsewhere, NOW).contains("other.example"));
    let anywhere = certified(&key, &authority, CertType::Host, |builder| {
        builder.all_principals_valid().unwrap();
    });
    assert!(why(&anywhere, NOW).contains("not for"));
    let conditional = certified(&key, &authority, CertType::Host, |builder| {
        for_host(builder);
        builder.critical_option("later", "x").unwrap();
    });
    assert!(why(&conditional, NOW).contains("conditions"));
    // Somebody who is not listed signs.
    let strangers = certified(&key, &other, CertType::Host, for_host);
    assert!(matches!(check(&strangers, NOW), Err(HostKeyError::Unknown(_))));
}

#[test]
fn a_certificate_whose_bytes_were_changed_is_refused() {
    let (key, authority) = (new_key(), new_key());
    let trust = trust(KnownHost { authorities: vec![listed(&authority)], ..KnownHost::default() });
    let bytes = certified(&key, &authority, CertType::Host, for_host).to_bytes().unwrap();
    let mut checked = 0;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        if let Ok(certificate) = Signed::from_bytes(&changed) {
            assert!(trust.check(&PublicKeyOrCertificate::Certificate(certificate), NOW).is_err(), "byte {at}");
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn revocation_beats_everything() {
    let (key, authority) = (new_key(), new_key());
    let plain = PublicKeyOrCertificate::from(key.public_key().clone());
    let certificate = PublicKeyOrCertificate::Certificate(certified(&key, &authority, CertType::Host, for_host));
    for revoked in [&key, &authority] {
        let mut trust = trust(KnownHost {
            keys: vec![listed(&key)],
            authorities: vec![listed(&authority)],
            revoked: vec![listed(revoked)],
        });
        trust.accepted = Some(fingerprint(key.public_key()));
        assert!(matches!(trust.check(&certificate, NOW), Err(HostKeyError::Revoked { .. })));
    }
    let trust = trust(KnownHost { keys: vec![listed(&key)], revoked: vec![listed(&key)], ..KnownHost::default() });
    assert!(matches!(trust.check(&plain, NOW), Err(HostKeyError::Revoked { .. })));
}

#[test]
fn a_host_with_another_key_has_changed_and_one_with_none_that_is_spoken_is_unknown() {
    let (key, other) = (new_key(), new_key());
    let shown = PublicKeyOrCertificate::from(key.public_key().clone());
    let changed = trust(KnownHost { keys: vec![listed(&other)], ..KnownHost::default() });
    let error = changed.check(&shown, NOW).unwrap_err();
    assert!(matches!(error, HostKeyError::Changed { .. }));
    assert_eq!(error.into_error().kind(), ErrorKind::Integrity);
    // Another sort than the one that is listed, and asked for first.
    let ecdsa = Listed { algorithm: "ecdsa-sha2-nistp256".into(), blob: vec![1], at: "file:1".into() };
    let changed = trust(KnownHost { keys: vec![ecdsa], ..KnownHost::default() });
    assert!(matches!(changed.check(&shown, NOW), Err(HostKeyError::Changed { .. })));
    let rsa = Listed { algorithm: "ssh-rsa".into(), blob: vec![1], at: "file:1".into() };
    let mut unknown = trust(KnownHost { keys: vec![rsa], ..KnownHost::default() });
    assert!(matches!(unknown.check(&shown, NOW), Err(HostKeyError::Unknown(_))));
    unknown.accepted = Some(fingerprint(key.public_key()));
    assert_eq!(unknown.check(&shown, NOW), Ok(()));
}
