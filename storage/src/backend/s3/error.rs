//! What a store's errors mean.

use std::error::Error as StdError;

use backstay_core::{Error, ErrorKind};
use object_store::Error as StoreError;

/// Whether a create met another one in flight (409 `ConditionalRequestConflict`): nobody knows yet which of them will be there. The
/// object store library calls it "already exists", as it does a 412, which alone says that an object is there.
pub(super) fn contended(error: &StoreError) -> bool {
    let StoreError::AlreadyExists { source, .. } = error else { return false };
    !matches!(
        source.downcast_ref::<StoreError>(),
        Some(StoreError::Precondition { .. } | StoreError::NotModified { .. } | StoreError::AlreadyExists { .. })
    )
}

pub(super) fn translate(error: StoreError, tried: &str) -> Error {
    let (kind, hint) = match &error {
        // A bucket that is not there is a mistake in the options, not an object that was looked for in vain.
        StoreError::NotFound { .. } if says(&error, "NoSuchBucket") => {
            (ErrorKind::InvalidInput, "there is no such bucket; make it or correct its name")
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
        _ => (ErrorKind::Unavailable, "the server did not answer as it should; see the cause and try again"),
    };
    let retryable = kind == ErrorKind::Unavailable;
    let error = Error::new(kind, format!("{tried}: {hint}")).with_context("cause", root(&error)).with_source(error);
    if retryable { error.retryable() } else { error }
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
