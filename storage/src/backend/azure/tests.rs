use backstay_core::ErrorKind;
use secrecy::SecretString;

use super::*;

fn options() -> AzureOptions {
    // Keys of accounts are base64.
    AzureOptions::new("account", "container").key(AzureKey::Access("U0VDUkVU".into()))
}

fn kind(options: AzureOptions) -> ErrorKind {
    AzureBackend::new(options).unwrap_err().kind()
}

#[test]
fn options_that_cannot_work_are_refused_at_once() {
    assert!(AzureBackend::new(options()).is_ok());
    assert_eq!(kind(AzureOptions::new("", "container")), ErrorKind::InvalidInput);
    assert_eq!(kind(AzureOptions::new("account", "")), ErrorKind::InvalidInput);
    assert_eq!(kind(options().prefix("a b")), ErrorKind::InvalidInput);
    assert_eq!(kind(options().endpoint("http://127.0.0.1:9/account")), ErrorKind::InvalidInput);
    assert_eq!(kind(options().key(AzureKey::Access("not base64!".into()))), ErrorKind::InvalidInput);
}

#[test]
fn keys_are_never_printed() {
    let secret = || SecretString::from("U0VDUkVU");
    let keys = [
        AzureKey::Access(secret()),
        AzureKey::Signature("sv=2021-08-06&sig=U0VDUkVU".into()),
        AzureKey::Principal { tenant: "tenant".into(), client: "client".into(), secret: secret() },
    ];
    for key in keys {
        let options = options().key(key).endpoint("https://user:hidden@127.0.0.1:9/account?sig=U0VDUkVU");
        let shown = format!("{options:?} {:?}", AzureBackend::new(options.clone()));
        for secret in ["U0VDUkVU", "hidden"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[test]
fn a_wrong_key_is_not_printed_with_the_error_either() {
    let error = AzureBackend::new(options().key(AzureKey::Access("SECRET not base64".into()))).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
}
