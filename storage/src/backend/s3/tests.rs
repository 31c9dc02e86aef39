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

#[test]
fn keys_survive_the_prefix() {
    for prefix in ["", "deep/folder"] {
        let backend = S3Backend::new(options().prefix(prefix)).unwrap();
        let key = ObjectKey::new("packs/0a/.x_y-z").unwrap();
        assert_eq!(backend.key(&backend.path(&key)).as_ref(), Some(&key));
    }
}

#[test]
fn a_conflict_of_two_creates_in_flight_is_not_taken_for_an_object_that_is_there() {
    let path = || "a".to_owned();
    let in_flight = object_store::Error::AlreadyExists { path: path(), source: "409".into() };
    assert!(contended(&in_flight));
    let refused = object_store::Error::Precondition { path: path(), source: "412".into() };
    let there = object_store::Error::AlreadyExists { path: path(), source: Box::new(refused) };
    assert!(!contended(&there));
    assert_eq!(translate(there, "Put").kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_bucket_that_is_not_there_is_no_object_that_is_not_there() {
    let not_found = |body: &str| object_store::Error::NotFound { path: "a".into(), source: body.into() };
    assert_eq!(translate(not_found("<Code>NoSuchBucket</Code>"), "Get").kind(), ErrorKind::InvalidInput);
    assert_eq!(translate(not_found("<Code>NoSuchKey</Code>"), "Get").kind(), ErrorKind::NotFound);
}
