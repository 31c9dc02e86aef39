use backstay_core::ErrorKind;

use super::*;

fn options() -> S3Options {
    S3Options::new("bucket").endpoint("http://127.0.0.1:9").allow_http(true).access_key("ACCESS").secret_key("SECRET")
}

#[test]
fn options_that_cannot_work_are_refused_at_once() {
    let kind = |options| S3Backend::new(options).unwrap_err().kind();
    assert_eq!(kind(S3Options::new("")), ErrorKind::InvalidInput);
    assert_eq!(kind(options().allow_http(false)), ErrorKind::InvalidInput);
    assert_eq!(kind(options().prefix("a b")), ErrorKind::InvalidInput);
    let mut half = options();
    half.secret_key = None;
    assert_eq!(kind(half), ErrorKind::InvalidInput);
}

#[test]
fn keys_are_never_printed() {
    let options = options().endpoint("http://user:hidden@127.0.0.1:9").prefix("/deep/folder/");
    let shown = format!("{options:?} {:?}", S3Backend::new(options.clone()).unwrap());
    for secret in ["SECRET", "hidden"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
