//! Objects in a bucket of S3.

mod options;

pub use self::options::S3Options;
use super::bucket::bucket_backend;

bucket_backend! {
    /// Objects in a bucket of Amazon S3 or of a server that speaks its protocol.
    ///
    /// A put is a single request with its length and hash signed, never a multipart upload: several servers ignore
    /// `If-None-Match` when an upload of parts is completed. Bodies may have up to 5 GiB by the protocol and must fit in memory.
    ///
    /// **[`backstay_core::PutMode::Create`]** is `If-None-Match: *`. Some servers ignore it or do not hold it in a race:
    /// [`crate::backend::probe()`] a bucket before trusting it. When the reply to a create is lost the client may try again by itself
    /// and then meet its own object: that is [`backstay_core::ErrorKind::AlreadyExists`] although the put went through, and the
    /// caller finds out by comparing what is there with its body.
    ///
    /// A request is tried three times within ten seconds; for more patience wrap it in a [`crate::backend::RetryBackend`].
    S3Backend(S3Options)
}

#[cfg(test)]
mod tests;
