//! One operation on the store, and what the store says to it.

use std::{fmt, ops::Range};

use backstay_core::{Error, ErrorKind, ObjectKey, ObjectMeta, PutMode, Result, StorageBackend};
use backstay_storage::{MemoryBackend, Operation};
use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};

/// An operation that an actor asks for.
#[derive(Clone, Debug)]
pub struct Call {
    pub operation: Operation,
    /// The object, or the folder of a listing; none for a listing of everything.
    pub key: Option<ObjectKey>,
    pub range: Range<u64>,
    pub body: Bytes,
    pub mode: PutMode,
}

/// An error that can be given twice: once to an actor and once to its replay.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: ErrorKind,
    pub retryable: bool,
    pub message: String,
}

/// What the store says.
#[derive(Clone, Debug)]
pub enum Reply {
    Done,
    Body(Bytes),
    Meta(ObjectMeta),
    Listing(Vec<ObjectMeta>),
    Failed(Failure),
}

impl Call {
    pub fn new(operation: Operation, key: Option<&ObjectKey>) -> Self {
        Self { operation, key: key.cloned(), range: 0..0, body: Bytes::new(), mode: PutMode::Create }
    }

    /// Whether it changes the store.
    pub fn writes(&self) -> bool {
        matches!(self.operation, Operation::Put | Operation::Delete)
    }

    pub fn creates(&self) -> bool {
        self.operation == Operation::Put && self.mode == PutMode::Create
    }

    pub fn below(&self, folder: &str) -> bool {
        let key = self.key.as_ref().map_or("", ObjectKey::as_str);
        key.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Does it, at once.
    pub fn apply(&self, store: &MemoryBackend) -> Reply {
        let now = async {
            let key = self.key.as_ref().ok_or_else(|| Error::internal("An operation without a key"));
            Ok(match self.operation {
                Operation::Put => store.put(key?, self.body.clone(), self.mode).await.map(|()| Reply::Done)?,
                Operation::Get => Reply::Body(store.get(key?).await?),
                Operation::GetRange => Reply::Body(store.get_range(key?, self.range.clone()).await?),
                Operation::Head => Reply::Meta(store.head(key?).await?),
                Operation::Delete => store.delete(key?).await.map(|()| Reply::Done)?,
                _ => Reply::Listing(store.list(self.key.as_ref()).try_collect().await?),
            })
        };
        // A backend in memory never waits.
        let reply: Option<Result<Reply>> = now.now_or_never();
        reply.unwrap_or_else(|| Err(Error::internal("The memory backend waited"))).unwrap_or_else(|error| {
            Reply::Failed(Failure { kind: error.kind(), retryable: false, message: error.message().to_owned() })
        })
    }
}

impl fmt::Display for Call {
    /// `put sessions/ab12cd/outcome 1a2b3c4d`: long names cut short; of a body the start of its hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.operation {
            Operation::Put => "put",
            Operation::Get | Operation::GetRange => "get",
            Operation::Head => "head",
            Operation::Delete => "delete",
            _ => "list",
        };
        write!(f, "{verb} {}", short(self.key.as_ref().map_or("", ObjectKey::as_str)))?;
        match self.operation {
            Operation::Put => write!(f, " {} B {}", self.body.len(), &blake3::hash(&self.body).to_hex()[..8]),
            Operation::GetRange => write!(f, " {}..{}", self.range.start, self.range.end),
            _ => Ok(()),
        }
    }
}

/// A key with its ids cut to six digits.
pub fn short(key: &str) -> String {
    let cut = |part: &str| if part.len() > 16 { part[..6].to_owned() } else { part.to_owned() };
    key.split('/').map(cut).collect::<Vec<_>>().join("/")
}

impl Failure {
    pub fn new(kind: ErrorKind, retryable: bool, message: &str) -> Self {
        Self { kind, retryable, message: message.to_owned() }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let error = Self::new(failure.kind, failure.message);
        if failure.retryable { error.retryable() } else { error }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("ok"),
            Self::Body(body) => write!(f, "{} B", body.len()),
            Self::Meta(meta) => write!(f, "{} B there", meta.size),
            Self::Listing(entries) => write!(f, "{} entries", entries.len()),
            Self::Failed(failure) => f.write_str(failure.kind.name()),
        }
    }
}
