//! The one error type of the public API, in ten kinds that mean the same in every language.

use std::{borrow::Cow, error::Error as StdError, fmt};

/// The result of every fallible call in Backstay.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the few categories a caller can act on.
///
/// The numbers are frozen: they are the status codes of the C library and name one Python exception each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u32)]
pub enum ErrorKind {
    /// The caller asked for something that makes no sense; the message says what would.
    InvalidInput = 1,
    /// The thing is not there. Never used for a thing that could not be read.
    NotFound = 2,
    /// The thing is there already and must not be replaced.
    AlreadyExists = 3,
    /// A key, a password or a file mode does not allow it.
    PermissionDenied = 4,
    /// A format, feature or version that this build does not know.
    Unsupported = 5,
    /// Somebody else's change got in the way; starting over can help.
    Conflict = 6,
    /// A server, a disk or the room on it is gone for now.
    Unavailable = 7,
    /// Bytes are not what they must be. Never retried, never downgraded.
    Integrity = 8,
    /// The caller cancelled.
    Cancelled = 9,
    /// A mistake of ours.
    Internal = 10,
}

impl ErrorKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 10] = [
        Self::InvalidInput,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::Unsupported,
        Self::Conflict,
        Self::Unavailable,
        Self::Integrity,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The frozen number, 1 to 10.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The name as it stands in Python, C and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidInput => "InvalidInput",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::PermissionDenied => "PermissionDenied",
            Self::Unsupported => "Unsupported",
            Self::Conflict => "Conflict",
            Self::Unavailable => "Unavailable",
            Self::Integrity => "Integrity",
            Self::Cancelled => "Cancelled",
            Self::Internal => "Internal",
        }
    }
}

/// Whether trying the same call again can help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// It cannot.
    #[default]
    Never,
    /// It can, after a pause.
    Backoff,
}

/// An error: a kind, a message that says what was tried and what to do next, and context.
///
/// A pointer wide, so that `Result` stays small. Messages and context never hold a secret.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {$(
        $(#[$doc])*
        pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
            Self::new(ErrorKind::$kind, message)
        }
    )*};
}

impl Error {
    /// An error that is not worth retrying.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, retry: Retry::Never, message: message.into(), context: Vec::new(), source: None }))
    }

    constructors! {
        /// Shorthand for [`ErrorKind::InvalidInput`].
        invalid_input => InvalidInput,
        /// Shorthand for [`ErrorKind::NotFound`].
        not_found => NotFound,
        /// Shorthand for [`ErrorKind::AlreadyExists`].
        already_exists => AlreadyExists,
        /// Shorthand for [`ErrorKind::PermissionDenied`].
        permission_denied => PermissionDenied,
        /// Shorthand for [`ErrorKind::Unsupported`].
        unsupported => Unsupported,
        /// Shorthand for [`ErrorKind::Conflict`].
        conflict => Conflict,
        /// Shorthand for [`ErrorKind::Unavailable`].
        unavailable => Unavailable,
        /// Shorthand for [`ErrorKind::Integrity`].
        integrity => Integrity,
        /// Shorthand for [`ErrorKind::Internal`].
        internal => Internal,
    }

    /// The error of an operation whose [`crate::Context`] was cancelled.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "Cancelled")
    }

    /// An I/O error, with the kind that its cause stands for. `tried` is the start of the message: `"Read disk image"`.
    pub fn io(error: std::io::Error, tried: &str) -> Self {
        use std::io::ErrorKind as Io;
        let (kind, hint) = match error.kind() {
            Io::NotFound => (ErrorKind::NotFound, ""),
            Io::AlreadyExists => (ErrorKind::AlreadyExists, ""),
            Io::PermissionDenied | Io::ReadOnlyFilesystem => (ErrorKind::PermissionDenied, ""),
            Io::StorageFull | Io::QuotaExceeded => (ErrorKind::Unavailable, "; make room and run it again"),
            Io::InvalidInput | Io::IsADirectory | Io::NotADirectory => (ErrorKind::InvalidInput, ""),
            Io::Unsupported => (ErrorKind::Unsupported, ""),
            _ => (ErrorKind::Unavailable, ""),
        };
        Self::new(kind, format!("{tried}: {error}{hint}")).with_source(error)
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds what the error is about: `("disk", "vda")`.
    #[must_use]
    pub fn with_context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Marks the error as worth retrying after a pause.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.0.retry = Retry::Backoff;
        self
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// The message without context.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the error is about, in the order it was added.
    #[must_use]
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (key, value) in &self.0.context {
            write!(f, " [{key}={value}]")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Adds context to the error of a [`Result`] without a closure at every call.
pub trait ResultExt<T> {
    /// See [`Error::with_context`].
    fn context(self, key: &'static str, value: impl fmt::Display) -> Result<T>;
}

impl<T> ResultExt<T> for Result<T> {
    fn context(self, key: &'static str, value: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.with_context(key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_kinds_keep_their_numbers_and_names() {
        let codes: Vec<_> = ErrorKind::ALL.iter().map(|kind| (kind.code(), kind.name())).collect();
        assert_eq!(codes.len(), 10);
        for (position, (code, name)) in codes.iter().enumerate() {
            assert_eq!(*code as usize, position + 1);
            assert_eq!(*name, format!("{:?}", ErrorKind::ALL[position]));
        }
    }

    #[test]
    fn an_error_is_a_pointer_wide_and_prints_its_context() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        let error = Error::not_found("No such disk").with_context("disk", "vda");
        assert_eq!(error.to_string(), "No such disk [disk=vda]");
    }

    #[test]
    fn a_full_disk_is_unavailable_and_says_what_to_do() {
        let error = Error::io(std::io::Error::from(std::io::ErrorKind::StorageFull), "Write pack");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("make room"));
    }
}
