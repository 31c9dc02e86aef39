//! Typed names. None of them is ever a bare string in a public signature.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The longest name of a workload or a disk, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($what:literal)),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the name: 1 to 255 bytes, no control characters.
            pub fn new(name: impl AsRef<str>) -> Result<Self> {
                check_name($what, name.as_ref())?;
                Ok(Self(name.as_ref().into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(name: &str) -> Result<Self> {
                Self::new(name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(name: String) -> Result<Self> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().into()
            }
        }
    )*};
}

names! {
    /// What is protected: a guest, a database, a directory. Chosen by the caller, stable over time.
    WorkloadId("workload name"),
    /// One disk of a workload: `vda`, `disk0`.
    DiskId("disk id"),
    /// One job in a queue.
    JobId("job id"),
    /// One worker that leases jobs.
    WorkerId("worker id"),
}

fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(Error::invalid_input(format!(
            "A {what} has 1 to {MAX_NAME_BYTES} bytes, this one has {}",
            name.len()
        )));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid_input(format!("A {what} must not hold control characters: {name:?}")));
    }
    Ok(())
}

/// One restore point: 16 random bytes, written as 32 hex digits. Also the id of the session that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RestorePointId([u8; 16]);

impl RestorePointId {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The first eight hex digits: enough for eyes.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for RestorePointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RestorePointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RestorePointId({self})")
    }
}

impl FromStr for RestorePointId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid_input("A restore point id has 32 hex digits").with_context("id", text);
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut bytes = [0; 16];
        for (position, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * position..2 * position + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for RestorePointId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<RestorePointId> for String {
    fn from(id: RestorePointId) -> String {
        id.to_string()
    }
}

/// The name of an object in a [`crate::StorageBackend`]: segments of `[A-Za-z0-9._-]` between single slashes.
///
/// The narrow alphabet is the same on every backend, so that no backend has to escape anything; `.` and `..` are no segments.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// Checks the key. 1 to 512 bytes.
    pub fn new(key: impl AsRef<str>) -> Result<Self> {
        let key = key.as_ref();
        let fine = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if key.len() > 512 || !key.split('/').all(fine) {
            return Err(Error::invalid_input(format!("Not an object key: {key:?}")));
        }
        Ok(Self(key.into()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectKey({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(WorkloadId::new("web-01 (Zürich)").is_ok());
        assert!(WorkloadId::new("").is_err());
        assert!(DiskId::new("vd\na").is_err());
        assert!(DiskId::new("x".repeat(256)).is_err());
    }

    #[test]
    fn object_keys_cannot_climb_out_of_a_folder() {
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a b", "a\\b", "ä"] {
            assert!(ObjectKey::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(ObjectKey::new("packs/0a/0a1b").unwrap().name(), "0a1b");
    }

    #[test]
    fn restore_point_ids_survive_text() {
        let id = RestorePointId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse::<RestorePointId>().unwrap(), id);
        assert!("ab".parse::<RestorePointId>().is_err());
        assert!("zz".repeat(16).parse::<RestorePointId>().is_err());
        assert!("é".repeat(16).parse::<RestorePointId>().is_err());
        assert!("+5".repeat(16).parse::<RestorePointId>().is_err());
    }
}
