//! Listings that go on where they broke off.

use backstay_core::{Error, ObjectKey, ObjectMeta, Result, StorageBackend};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{budget::Budget, tried, worth_it};

/// What a listing has given so far, in a few bytes however long it is.
#[derive(Clone, Default, PartialEq, Eq)]
struct Given {
    last: Option<ObjectKey>,
    count: u64,
    /// Of all names, in any order: whether a second listing begins with the same.
    sum: u128,
    unordered: bool,
}

impl Given {
    fn add(&mut self, key: &ObjectKey) {
        self.unordered |= self.last.as_ref().is_some_and(|last| last >= key);
        self.last = Some(key.clone());
        self.count += 1;
        let mut first = [0; 16];
        first.copy_from_slice(&blake3::hash(key.as_str().as_bytes()).as_bytes()[..16]);
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(first));
    }

    fn covers(&self, key: &ObjectKey) -> bool {
        self.last.as_ref().is_some_and(|last| key <= last)
    }
}

struct Listing<'a> {
    backend: &'a dyn StorageBackend,
    budget: &'a Budget,
    folder: Option<ObjectKey>,
    running: Option<BoxStream<'a, Result<ObjectMeta>>>,
    given: Given,
    /// What the listing that runs now repeats, and the error that ended the one before.
    repeated: Given,
    broke: Option<Error>,
    failures: u32,
}

pub(super) fn patient<'a>(
    backend: &'a dyn StorageBackend,
    budget: &'a Budget,
    folder: Option<ObjectKey>,
) -> BoxStream<'a, Result<ObjectMeta>> {
    let (given, repeated) = (Given::default(), Given::default());
    let listing = Listing { backend, budget, folder, running: None, given, repeated, broke: None, failures: 0 };
    stream::unfold(Some(listing), |listing| async move {
        let mut listing = listing?;
        match listing.next().await {
            Some(Ok(meta)) => Some((Ok(meta), Some(listing))),
            // Nothing comes after an error.
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    })
    .boxed()
}

impl Listing<'_> {
    async fn next(&mut self) -> Option<Result<ObjectMeta>> {
        loop {
            let running = self.running.get_or_insert_with(|| self.backend.list(self.folder.as_ref()));
            match running.next().await {
                Some(Ok(meta)) if self.broke.is_some() && self.given.covers(&meta.key) => self.repeated.add(&meta.key),
                Some(Err(error)) if worth_it(&error) => {
                    if let Err(error) = self.start_over(error).await {
                        return Some(Err(error));
                    }
                }
                Some(Err(error)) => return Some(Err(error)),
                other => return self.pass(other.and_then(Result::ok)),
            }
        }
    }

    /// A new name, or the end.
    fn pass(&mut self, next: Option<ObjectMeta>) -> Option<Result<ObjectMeta>> {
        if let Some(error) = self.broke.take()
            && self.repeated != self.given
        {
            return Some(Err(error));
        }
        if next.is_none() || self.given.count == 0 || self.failures > 0 {
            self.budget.answered();
        }
        self.failures = 0;
        let next = next?;
        self.given.add(&next.key);
        Some(Ok(next))
    }

    async fn start_over(&mut self, error: Error) -> Result<()> {
        self.failures += 1;
        let pause = if self.given.unordered { None } else { self.budget.pause_after(self.failures)? };
        let Some(pause) = pause else { return Err(tried(error, self.failures)) };
        tokio::time::sleep(pause).await;
        self.running = None;
        self.repeated = Given::default();
        self.broke = Some(error);
        Ok(())
    }
}
