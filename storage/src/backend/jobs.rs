//! File work off the async threads, without a [`backstay_core::Context`]: a backend lives longer than any one operation.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc};

use backstay_core::{Error, Result, Spawner};
use tokio::sync::oneshot;

/// Runs blocking jobs on a spawner.
#[derive(Clone)]
pub(super) struct Jobs(pub(super) Arc<dyn Spawner>);

impl Jobs {
    /// Runs the job to its end even when the future is dropped: half a put must not stay behind.
    pub(super) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (tell, done) = oneshot::channel();
        self.0.spawn_blocking(Box::new(move || {
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(job));
            let panicked = |_| Err(Error::internal("A storage job panicked; please report this"));
            // The caller may have gone away; then nobody wants the outcome.
            let _unwanted = tell.send(outcome.unwrap_or_else(panicked));
        }));
        let dropped = |_| Err(Error::internal("The runtime dropped a storage job, as it does when it shuts down"));
        done.await.unwrap_or_else(dropped)
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jobs")
    }
}
