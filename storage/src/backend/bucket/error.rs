//! What a store's errors mean.

use std::error::Error as StdError;

use backstay_core::{Error, ErrorKind};
use object_store::Error as StoreError;

/// Whether a create met another one in flight (Amazon's 409 `ConditionalRequestConflict`): nobody knows yet which of them will be
/// there. The client calls it "already exists", as it does the two answers that do say that an object is there: a 412, and
/// Azure's 409 `BlobAlreadyExists`.
pub(super) fn contended(error: &StoreError) -> bool {
    let StoreError::AlreadyExists { source, .. } = error else { return false };
    let refused = matches!(
        source.downcast_ref::<StoreError>(),
        Some(StoreError::Precondition { .. } | StoreError::NotModified { .. } | StoreError::AlreadyExists { .. })
    );
    !refused && !says(error, "412 Precondition Failed") && !says(error, "BlobAlreadyExists")
}

/// Whether the store refuses to let go of an object before its time: a lock or a policy of S3 or Azure, or a hold.
pub(super) fn locked(error: &StoreError) -> bool {
    ["BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold", "object protected by object lock"]
        .iter()
        .any(|word| says(error, word))
}

pub(super) fn translate(error: StoreError, tried: &str) -> Error {
    let (kind, hint) = match &error {
        // A bucket that is not there is a mistake in the options, not an object that was looked for in vain.
        StoreError::NotFound { .. } if says(&error, "NoSuchBucket") || says(&error, "ContainerNotFound") => {
            (ErrorKind::InvalidInput, "there is no such bucket or container; make it or correct its name")
        }
        StoreError::NotFound { .. } => (ErrorKind::NotFound, "no such object"),
        StoreError::AlreadyExists { .. } => (ErrorKind::AlreadyExists, "the object is there already"),
        StoreError::Precondition { .. } | StoreError::NotModified { .. } => {
            (ErrorKind::Conflict, "the object changed meanwhile; start over")
        }
        StoreError::PermissionDenied { .. } => {
            (ErrorKind::PermissionDenied, "the server refuses; check the keys, the clock and what the keys may do")
        }
        StoreError::Unauthenticated { .. } => {
            (ErrorKind::PermissionDenied, "the server does not know who asks; check the keys")
        }
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => {
            (ErrorKind::Unsupported, "the server cannot do this; use another one")
        }
        StoreError::InvalidPath { .. } => (ErrorKind::InvalidInput, "the server does not take this name"),
        StoreError::UnknownConfigurationKey { .. } => {
            (ErrorKind::Internal, "an option of ours is unknown; please report this")
        }
        _ if refused_for_good(&error) => (
            ErrorKind::InvalidInput,
            "the server takes no such request; see the cause, then the endpoint and the options",
        ),
        _ => (ErrorKind::Unavailable, "the server did not answer as it should; see the cause and try again"),
    };
    let retryable = kind == ErrorKind::Unavailable;
    let error = Error::new(kind, format!("{tried}: {hint}")).with_context("cause", root(&error)).with_source(error);
    if retryable { error.retryable() } else { error }
}

/// Whether the status is one of the client's own mistakes (4xx), which stay mistakes when they are made again. 408 and 429 only ask for
/// patience. The client keeps the status to itself and tells it in words.
fn refused_for_good(error: &StoreError) -> bool {
    const STATUS: &str = "Server returned non-2xx status code: ";
    let cause = root(error);
    let status = cause.strip_prefix(STATUS).and_then(|rest| rest.get(..3));
    status.is_some_and(|status| status.starts_with('4') && !matches!(status, "408" | "429"))
}

/// Whether any error of the chain says this.
fn says(error: &StoreError, word: &str) -> bool {
    let mut next: Option<&dyn StdError> = Some(error);
    while let Some(error) = next {
        if error.to_string().contains(word) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The innermost error: the others only repeat it with more words.
fn root(error: &StoreError) -> String {
    let mut innermost: &dyn StdError = error;
    while let Some(deeper) = innermost.source() {
        innermost = deeper;
    }
    innermost.to_string().chars().take(500).collect()
}
