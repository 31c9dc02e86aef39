//! Which calls break, and how.

use std::time::Duration;

use backstay_core::{ErrorKind, ObjectKey};
use bytes::Bytes;

/// A call of a [`backstay_core::StorageBackend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `put`
    Put,
    /// `get`
    Get,
    /// `get_range`
    GetRange,
    /// `head`
    Head,
    /// `delete`
    Delete,
    /// `list`
    List,
}

/// How a call breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It fails before it reaches the store.
    Fail(ErrorKind),
    /// The store does it, but the caller sees this error: `Unavailable` for a reply that was lost, `AlreadyExists` for a client that
    /// tried a create again by itself and met its own object.
    LoseReply(ErrorKind),
    /// The process dies before the store does it: this and every later call fail, until [`super::FaultBackend::revive`].
    CrashBefore,
    /// The store does it, then the process dies.
    CrashAfter,
    /// Only the first so many bytes come back (or, in a put by a store that lies, arrive); of a list, so many entries.
    Truncate(usize),
    /// Bit 0 to 7 of a byte is another one: bit `n` counts from the lowest of byte 0, modulo the size of the body.
    FlipBit(usize),
    /// It takes so much longer. Needs a tokio runtime with its timer on.
    Delay(Duration),
}

impl Fault {
    pub(super) fn damage(&self, body: Bytes) -> Bytes {
        match self {
            Self::Truncate(bytes) => body.slice(..body.len().min(*bytes)),
            Self::FlipBit(bit) if !body.is_empty() => {
                let mut body = body.to_vec();
                let byte = bit / 8 % body.len();
                body[byte] ^= 1 << (bit % 8);
                body.into()
            }
            _ => body,
        }
    }
}

/// Picks calls to break: by default the next one, whatever it is.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    operation: Option<Operation>,
    folder: Option<ObjectKey>,
    skip: u64,
    times: u64,
}

impl Rule {
    /// Breaks the next call this way.
    #[must_use]
    pub const fn new(fault: Fault) -> Self {
        Self { fault, operation: None, folder: None, skip: 0, times: 1 }
    }

    /// Only calls of this sort.
    #[must_use]
    pub const fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only calls about this object, or about objects below this folder.
    #[must_use]
    pub fn below(mut self, key: ObjectKey) -> Self {
        self.folder = Some(key);
        self
    }

    /// Lets this many such calls through first.
    #[must_use]
    pub const fn skip(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Breaks this many such calls instead of one.
    #[must_use]
    pub const fn times(mut self, calls: u64) -> Self {
        self.times = calls;
        self
    }

    /// Breaks every such call.
    #[must_use]
    pub const fn always(self) -> Self {
        self.times(u64::MAX)
    }

    pub(super) fn picks(&mut self, operation: Operation, key: Option<&ObjectKey>) -> Option<Fault> {
        let of_this_sort = self.operation.is_none_or(|wanted| wanted == operation);
        let here = self.folder.as_ref().is_none_or(|folder| key.is_some_and(|key| lies_in(key, folder)));
        if !of_this_sort || !here {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times = self.times.checked_sub(1)?;
        Some(self.fault.clone())
    }
}

fn lies_in(key: &ObjectKey, folder: &ObjectKey) -> bool {
    key.as_str().strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
