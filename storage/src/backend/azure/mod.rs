//! Objects in a container of Azure Blob Storage.

mod options;

pub use self::options::{AzureKey, AzureOptions};
use super::bucket::bucket_backend;

bucket_backend! {
    /// Objects in a container of Azure Blob Storage, as block blobs.
    ///
    /// A put is a single request, never a list of blocks; bodies may have up to 5,000 MiB and must fit in memory.
    ///
    /// **[`backstay_core::PutMode::Create`]** is `If-None-Match: *`, which Azure holds also in a race (409 `BlobAlreadyExists`). What a
    /// lost reply to a create leads to is told at [`crate::backend::RetryBackend`].
    ///
    /// A request is tried three times within ten seconds; for more patience wrap it in a [`crate::backend::RetryBackend`].
    AzureBackend(AzureOptions)
}

#[cfg(test)]
mod tests;
