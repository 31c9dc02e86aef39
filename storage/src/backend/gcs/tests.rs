use backstay_core::ErrorKind;

use super::*;

fn options() -> GcsOptions {
    GcsOptions::new("bucket").key(GcsKey::Token("SECRET".into()))
}

fn kind(options: GcsOptions) -> ErrorKind {
    GcsBackend::new(options).unwrap_err().kind()
}

#[test]
fn options_that_cannot_work_are_refused_at_once() {
    assert!(GcsBackend::new(options()).is_ok());
    assert_eq!(kind(GcsOptions::new("").key(GcsKey::Token("SECRET".into()))), ErrorKind::InvalidInput);
    assert_eq!(kind(options().prefix("a b")), ErrorKind::InvalidInput);
    assert_eq!(kind(options().endpoint("http://127.0.0.1:9")), ErrorKind::InvalidInput);
    assert_eq!(kind(options().key(GcsKey::File("/nowhere/at/all".into()))), ErrorKind::InvalidInput);
}

#[test]
fn keys_are_never_printed() {
    for key in [GcsKey::Token("SECRET".into()), GcsKey::ServiceAccount(r#"{"private_key": "SECRET"}"#.into())] {
        let options = options().key(key).endpoint("https://user:hidden@127.0.0.1:9");
        // The key of an account that is not whole is an error, which must not quote it.
        let shown = format!("{options:?} {:?}", GcsBackend::new(options.clone()));
        for secret in ["SECRET", "hidden"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
