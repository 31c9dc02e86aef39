//! Objects in a folder of an SSH server.

mod connection;
mod error;
mod folder_reader;
mod folders;
mod host_key;
mod identity;
mod known_hosts;
mod link;
mod login;
mod mode;
mod options;
mod place;
mod read;
mod temporary;
mod transfer;
mod walk;
mod write;

use std::{
    future::Future,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use backstay_core::{
    BackendCapabilities, Error, ErrorKind, ObjectKey, ObjectMeta, PutMode, Result, ResultExt, StorageBackend,
};
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    future::{Either, select},
    stream::{self, BoxStream},
};
use tokio::sync::oneshot;

use self::{
    connection::Connection,
    link::Link,
    write::{Gone, Writer},
};
pub use self::{
    host_key::{HostKeyError, UnknownHostKey},
    known_hosts::fuzz_known_hosts,
    options::{SftpOptions, SshPrompt},
    place::SftpPlace,
};

/// Objects as files in a folder of an SSH server: `packs/0a/0a1b` is the file of that path, as [`super::LocalBackend`] has it, so that the
/// server's own folder can be opened there, too.
///
/// **Host keys** are those of [`SftpOptions::known_hosts`]; the source of the error about another one is a [`HostKeyError`].
///
/// **All or nothing.** A body is written to a temporary file below `~tmp`, synced (`fsync@openssh.com`), and given its name by a hard link
/// (`hardlink@openssh.com`), which refuses a name that is taken: [`PutMode::Create`] is atomic among all writers. On a server without that
/// extension it is a rename, which by the protocol refuses, too, but perhaps not in a race: `create_if_absent` is not promised then.
///
/// **Durable** as far as SFTP goes: the file is. The entry in its folder is where the server lets a folder be opened and synced, as
/// OpenSSH on Linux does; others write it when they like. A server that cannot sync files either takes no puts, unless
/// [`SftpOptions::allow_unsynced`].
///
/// **One connection** carries everything, several requests at once; it is made by the first operation. An operation that loses it makes a new
/// one and tries once more. When that fails it is [`ErrorKind::Unavailable`], and the next operation tries again. A create that had to
/// try again may meet its own object: that is [`ErrorKind::AlreadyExists`].
///
/// **Dropped futures.** An operation that nobody waits for any more ends by itself: it sends no more of its body, closes what it opened and
/// removes its temporary file.
///
/// Needs a tokio runtime with time and network enabled.
#[derive(Clone, Debug)]
pub struct SftpBackend {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    place: SftpPlace,
    link: Link,
    writer: Writer,
    /// Until a server is met that cannot.
    links: AtomicBool,
}

impl SftpBackend {
    /// Checks the options; asks nobody yet.
    pub fn new(options: SftpOptions) -> Result<Self> {
        let mut place = options.place.clone();
        place.user = place.user.or_else(|| options.user.clone());
        let link = Link::new(options)?;
        let writer = Writer::new(place.clone(), link.allows_unsynced());
        Ok(Self { inner: Arc::new(Inner { place, link, writer, links: AtomicBool::new(true) }) })
    }

    /// Runs the operation in a task of its own, so that it ends in order when nobody waits for it any more, and once more when it lost the
    /// connection.
    async fn run<T, F>(&self, operation: impl Fn(Arc<Inner>, Arc<Connection>, Gone) -> F + Send + Sync) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut again = true;
        loop {
            let connection = self.connection().await?;
            let (_waiting, gone) = oneshot::channel();
            let task = tokio::spawn(operation(Arc::clone(&self.inner), Arc::clone(&connection), gone));
            let outcome = match select(task, Box::pin(connection.ended())).await {
                Either::Left((outcome, _)) => outcome.unwrap_or_else(|error| Err(ended(&error))),
                // Over there is nothing left that it could put in order.
                Either::Right(((), task)) => {
                    task.abort();
                    Err(error::broken())
                }
            };
            match outcome {
                Err(error) if again && error.kind() == ErrorKind::Unavailable && connection.is_lost() => again = false,
                outcome => return outcome.context("at", &self.inner.place),
            }
        }
    }

    async fn connection(&self) -> Result<Arc<Connection>> {
        let connection = self.inner.link.connection().await.context("at", &self.inner.place)?;
        self.inner.links.store(connection.features.hardlink, Ordering::Relaxed);
        Ok(connection)
    }

    fn path(&self, key: &ObjectKey) -> String {
        self.inner.place.below(key.as_str())
    }
}

fn ended(error: &tokio::task::JoinError) -> Error {
    if error.is_panic() {
        Error::internal("A storage task panicked; please report this")
    } else {
        Error::internal("The runtime dropped a storage task, as it does when it shuts down")
    }
}

#[async_trait]
impl StorageBackend for SftpBackend {
    fn location(&self) -> String {
        self.inner.place.to_string()
    }

    /// What OpenSSH promises, until a connection shows that the server makes no hard links.
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities::new(self.inner.links.load(Ordering::Relaxed), true)
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        let path = self.path(key);
        let put = self.run(|inner, connection, gone| {
            let (path, body) = (path.clone(), body.clone());
            async move { inner.writer.put(&connection, &path, &body, mode, gone).await }
        });
        put.await.context("key", key)
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        let path = self.path(key);
        let get = self.run(|_, connection, gone| {
            let path = path.clone();
            async move { read::whole(&connection, &path, gone).await }
        });
        get.await.context("key", key)
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let path = self.path(key);
        let get = self.run(|_, connection, gone| {
            let (path, key, range) = (path.clone(), key.clone(), range.clone());
            async move { read::range(&connection, &path, &key, range, gone).await }
        });
        get.await.context("key", key)
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let path = self.path(key);
        let head = self.run(|_, connection, _| {
            let path = path.clone();
            async move { read::size(&connection, &path).await }
        });
        Ok(ObjectMeta { key: key.clone(), size: head.await.context("key", key)? })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let path = self.path(key);
        let delete = self.run(|_, connection, _| {
            let path = path.clone();
            async move { write::delete(&connection, &path).await }
        });
        delete.await.context("key", key)
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        let start = match folder {
            Some(folder) => walk::Folder { path: self.path(folder), prefix: format!("{folder}/") },
            None => walk::Folder { path: self.inner.place.path.clone(), prefix: String::new() },
        };
        stream::once(async move { Ok(walk::list(self.connection().await?, start)) })
            .try_flatten()
            .map_err(|error: Error| error.with_context("at", &self.inner.place))
            .boxed()
    }
}
