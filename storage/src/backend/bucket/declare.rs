//! One type for each cloud, one implementation behind them.

/// Declares a backend that is a [`super::Bucket`], opened by the `open` of its options.
macro_rules! bucket_backend {
    ($(#[$doc:meta])* $name:ident($options:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(crate::backend::bucket::Bucket);

        impl $name {
            /// Checks the options; asks nobody yet.
            pub fn new(options: $options) -> backstay_core::Result<Self> {
                Ok(Self(options.open()?))
            }

            /// Promises this instead of what the cloud does: what [`crate::backend::probe()`] found.
            #[must_use]
            pub const fn with_capabilities(mut self, found: backstay_core::BackendCapabilities) -> Self {
                self.0.capabilities = found;
                self
            }
        }

        #[async_trait::async_trait]
        impl backstay_core::StorageBackend for $name {
            fn location(&self) -> String {
                self.0.location()
            }

            /// What the cloud promises, unless [`Self::with_capabilities`] knows better.
            fn capabilities(&self) -> backstay_core::BackendCapabilities {
                self.0.capabilities()
            }

            async fn put(
                &self,
                key: &backstay_core::ObjectKey,
                body: bytes::Bytes,
                mode: backstay_core::PutMode,
            ) -> backstay_core::Result<()> {
                self.0.put(key, body, mode).await
            }

            async fn get(&self, key: &backstay_core::ObjectKey) -> backstay_core::Result<bytes::Bytes> {
                self.0.get(key).await
            }

            async fn get_range(
                &self,
                key: &backstay_core::ObjectKey,
                range: std::ops::Range<u64>,
            ) -> backstay_core::Result<bytes::Bytes> {
                self.0.get_range(key, range).await
            }

            async fn head(&self, key: &backstay_core::ObjectKey) -> backstay_core::Result<backstay_core::ObjectMeta> {
                self.0.head(key).await
            }

            async fn delete(&self, key: &backstay_core::ObjectKey) -> backstay_core::Result<()> {
                self.0.delete(key).await
            }

            fn list(
                &self,
                folder: Option<&backstay_core::ObjectKey>,
            ) -> futures::stream::BoxStream<'_, backstay_core::Result<backstay_core::ObjectMeta>> {
                self.0.list(folder)
            }
        }
    };
}
pub(in crate::backend) use bucket_backend;
