//! A layer that counts, remembers and fails on command.

mod counts;
mod rule;

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use backstay_core::{BackendCapabilities, Error, ObjectKey, ObjectMeta, PutMode, Result, StorageBackend};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};

use self::counts::Counters;
pub use self::{
    counts::{Call, Counts},
    rule::{Fault, Operation, Rule},
};

/// Passes every call on to another backend, counts it, and breaks the ones that [`Rule`]s pick.
///
/// For tests of whatever stands on a backend: what does it cost, and what is left when the store fails or the process
/// dies at this very call?
///
/// ```
/// # use std::sync::Arc;
/// # use backstay_core::{ObjectKey, PutMode, StorageBackend};
/// use backstay_storage::backend::{Fault, FaultBackend, MemoryBackend, Operation, Rule};
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let backend = FaultBackend::new(Arc::new(MemoryBackend::new()));
/// backend.inject(Rule::new(Fault::CrashAfter).on(Operation::Put).skip(1));
/// let key = |name| ObjectKey::new(name).unwrap();
/// assert!(backend.put(&key("a"), "1".into(), PutMode::Create).await.is_ok());
/// assert!(backend.put(&key("b"), "2".into(), PutMode::Create).await.is_err(), "stored, but the process died");
/// assert!(backend.get(&key("a")).await.is_err(), "the dead do not read");
/// backend.revive();
/// assert_eq!(backend.get(&key("b")).await.unwrap(), "2");
/// assert_eq!(backend.counts().puts, 2);
/// # }
/// ```
#[derive(Debug)]
pub struct FaultBackend {
    inner: Arc<dyn StorageBackend>,
    rules: Mutex<Vec<Rule>>,
    dead: AtomicBool,
    counters: Counters,
}

impl FaultBackend {
    /// No faults yet.
    #[must_use]
    pub fn new(inner: Arc<dyn StorageBackend>) -> Self {
        Self { inner, rules: Mutex::default(), dead: AtomicBool::new(false), counters: Counters::default() }
    }

    /// Adds a rule. Of several that pick a call the first added breaks it.
    pub fn inject(&self, rule: Rule) {
        self.rules().push(rule);
    }

    /// Drops every rule and lets calls through again after a crash.
    pub fn revive(&self) {
        self.rules().clear();
        self.dead.store(false, Ordering::SeqCst);
    }

    /// Whether a crash happened.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// What was called so far, faults included; calls after a crash are not.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counters.counts()
    }

    /// Starts counting and recording at nothing again.
    pub fn reset_counts(&self) {
        self.counters.reset();
    }

    /// From now on keeps every call for [`Self::calls`].
    pub fn record_calls(&self) {
        self.counters.record();
    }

    /// The calls since [`Self::record_calls`], in the order they came in.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.counters.calls()
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call and finds its fault. Every rule sees every call, so that each counts for itself.
    fn enter(&self, operation: Operation, key: Option<&ObjectKey>, bytes: usize) -> Result<Option<Fault>> {
        if self.crashed() {
            return Err(crashed());
        }
        self.counters.called(operation, key, bytes as u64);
        let picked: Vec<_> = self.rules().iter_mut().filter_map(|rule| rule.picks(operation, key)).collect();
        Ok(picked.into_iter().next())
    }

    fn crash(&self) -> Error {
        self.dead.store(true, Ordering::SeqCst);
        crashed()
    }

    /// What a fault does before the call is passed on.
    async fn before(&self, fault: Option<&Fault>) -> Result<()> {
        match fault {
            Some(Fault::Fail(kind)) => Err(Error::new(*kind, "A fault was injected")),
            Some(Fault::CrashBefore) => Err(self.crash()),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(*time).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What a fault does to the outcome.
    fn after<T>(&self, fault: Option<&Fault>, outcome: Result<T>) -> Result<T> {
        // A process that died during another call is dead for this one too: it never learns how it ended.
        if self.crashed() {
            return Err(crashed());
        }
        match fault {
            Some(Fault::LoseReply(kind)) => {
                outcome.and_then(|_| Err(Error::new(*kind, "The reply was lost (injected)")))
            }
            Some(Fault::CrashAfter) => outcome.and_then(|_| Err(self.crash())),
            _ => outcome,
        }
    }

    fn damage(&self, fault: Option<&Fault>, body: Bytes) -> Bytes {
        let body = match fault {
            Some(fault) => fault.damage(body),
            None => body,
        };
        self.counters.got(body.len() as u64);
        body
    }
}

fn crashed() -> Error {
    Error::unavailable("The process died here (injected)")
}

#[async_trait]
impl StorageBackend for FaultBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        let fault = self.enter(Operation::Put, Some(key), body.len())?;
        self.before(fault.as_ref()).await?;
        let body = fault.as_ref().map_or_else(|| body.clone(), |fault| fault.damage(body.clone()));
        self.after(fault.as_ref(), self.inner.put(key, body, mode).await)
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        let fault = self.enter(Operation::Get, Some(key), 0)?;
        self.before(fault.as_ref()).await?;
        let body = self.after(fault.as_ref(), self.inner.get(key).await)?;
        Ok(self.damage(fault.as_ref(), body))
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let fault = self.enter(Operation::GetRange, Some(key), 0)?;
        self.before(fault.as_ref()).await?;
        let body = self.after(fault.as_ref(), self.inner.get_range(key, range).await)?;
        Ok(self.damage(fault.as_ref(), body))
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let fault = self.enter(Operation::Head, Some(key), 0)?;
        self.before(fault.as_ref()).await?;
        self.after(fault.as_ref(), self.inner.head(key).await)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let fault = self.enter(Operation::Delete, Some(key), 0)?;
        self.before(fault.as_ref()).await?;
        self.after(fault.as_ref(), self.inner.delete(key).await)
    }

    /// A fault of a list strikes before its first entry; [`Fault::Truncate`] cuts it to so many entries.
    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        let folder = folder.cloned();
        let start = async move {
            let fault = self.enter(Operation::List, folder.as_ref(), 0)?;
            self.before(fault.as_ref()).await?;
            self.after(fault.as_ref(), Ok(()))?;
            let entries = match fault {
                Some(Fault::Truncate(entries)) => entries,
                _ => usize::MAX,
            };
            let listed = self.inner.list(folder.as_ref());
            Ok(listed.take(entries).map(|entry| if self.crashed() { Err(crashed()) } else { entry }))
        };
        futures::stream::once(start).try_flatten().boxed()
    }
}

#[cfg(test)]
mod tests;
