use object_store::memory::InMemory;

use super::*;

fn bucket(prefix: &str) -> Bucket {
    Bucket::new(InMemory::new(), options::checked_prefix(prefix).unwrap(), "test:".into())
}

#[test]
fn keys_survive_the_prefix() {
    for prefix in ["", "deep/folder"] {
        let bucket = bucket(prefix);
        let key = ObjectKey::new("packs/0a/.x_y-z").unwrap();
        assert_eq!(bucket.key(&bucket.path(&key)).as_ref(), Some(&key));
    }
}

fn conflict(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::AlreadyExists { path: "a".into(), source: source.into() }
}

#[test]
fn a_conflict_of_two_creates_in_flight_is_not_taken_for_an_object_that_is_there() {
    assert!(contended(&conflict("Server returned non-2xx status code: 409 Conflict: ConditionalRequestConflict")));
    let refused = object_store::Error::Precondition { path: "a".into(), source: "412".into() };
    for there in [
        conflict(refused),
        conflict("Server returned non-2xx status code: 412 Precondition Failed: <Code>ConditionNotMet</Code>"),
        conflict("Server returned non-2xx status code: 409 Conflict: <Code>BlobAlreadyExists</Code>"),
    ] {
        assert!(!contended(&there), "{there}");
        assert_eq!(translate(there, "Put").kind(), ErrorKind::AlreadyExists);
    }
}

#[test]
fn a_bucket_that_is_not_there_is_no_object_that_is_not_there() {
    let not_found = |body: &str| object_store::Error::NotFound { path: "a".into(), source: body.into() };
    assert_eq!(translate(not_found("<Code>NoSuchBucket</Code>"), "Get").kind(), ErrorKind::InvalidInput);
    assert_eq!(translate(not_found("<Code>ContainerNotFound</Code>"), "Get").kind(), ErrorKind::InvalidInput);
    assert_eq!(translate(not_found("<Code>NoSuchKey</Code>"), "Get").kind(), ErrorKind::NotFound);
}

#[test]
fn what_the_server_refuses_for_good_is_not_tried_again_and_what_it_puts_off_is() {
    let answer = |status: &str| object_store::Error::Generic {
        store: "S3",
        source: format!("Server returned non-2xx status code: {status}: body").into(),
    };
    for status in ["400 Bad Request", "405 Method Not Allowed", "411 Length Required"] {
        let error = translate(answer(status), "Put");
        assert_eq!((error.kind(), error.retry()), (ErrorKind::InvalidInput, backstay_core::Retry::Never), "{status}");
    }
    for status in ["408 Request Timeout", "429 Too Many Requests", "500 Internal Server Error", "503 Slow Down"] {
        let error = translate(answer(status), "Put");
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, backstay_core::Retry::Backoff), "{status}");
    }
}

#[test]
fn neither_a_password_nor_a_signature_in_an_address_is_shown() {
    let shown = options::location("s3", "b", "/p/", Some("https://user:hidden@host:9000/path?sig=hidden"));
    assert_eq!(shown, "s3://b/p at https://host:9000/path");
}

#[test]
fn an_object_that_the_store_must_keep_is_told_from_one_that_is_forbidden_for_good() {
    let denied = |body: &str| object_store::Error::PermissionDenied { path: "a".into(), source: body.into() };
    assert!(locked(&denied("403 Forbidden: Access Denied because object protected by object lock.")));
    assert!(!locked(&denied("403 Forbidden: <Code>AccessDenied</Code>")));
    assert!(locked(&conflict("409 Conflict: <Code>BlobImmutableDueToPolicy</Code>")));
    assert!(!locked(&conflict("409 Conflict: <Code>BlobAlreadyExists</Code>")));
}
