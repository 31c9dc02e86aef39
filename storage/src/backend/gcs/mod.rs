//! Objects in a bucket of Google Cloud Storage.

mod options;

pub use self::options::{GcsKey, GcsOptions};
use super::bucket::bucket_backend;

bucket_backend! {
    /// Objects in a bucket of Google Cloud Storage, over its XML interface.
    ///
    /// A put is a single request, never an upload of parts; bodies may have up to 5 TiB by the protocol and must fit in memory.
    ///
    /// **[`backstay_core::PutMode::Create`]** is `x-goog-if-generation-match: 0`, which Google holds also in a race (412). What a
    /// lost reply to a create leads to is told at [`crate::backend::RetryBackend`].
    ///
    /// A request is tried three times within ten seconds; for more patience wrap it in a [`crate::backend::RetryBackend`].
    GcsBackend(GcsOptions)
}

#[cfg(test)]
mod tests;
