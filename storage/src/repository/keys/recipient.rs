//! The public half of a key, as people hand it on.

use std::{fmt, str::FromStr};

use backstay_core::{Error, Result};

use super::credential::{from_groups, to_groups};

/// An X25519 public key that a slot can be made for without anybody's secret. Not a secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecipientKey(pub(crate) [u8; 32]);

const PREFIX: &str = "BSPUBLIC";
const CHECK: &str = "backstay 2026-11-20 v1 recipient check";

impl fmt::Display for RecipientKey {
    /// `BSPUBLIC-XXXXXXX-…`, like a key, and not to be mistaken for one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_groups(PREFIX, CHECK, &self.0))
    }
}

impl FromStr for RecipientKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        from_groups(PREFIX, CHECK, text).map(|bytes| Self(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::SecretKey;

    #[test]
    fn a_recipient_survives_text_and_is_never_taken_for_a_secret() {
        let key = SecretKey::generate(&backstay_core::Context::default()).unwrap();
        let public = key.recipient().unwrap();
        let text = public.to_string();
        assert_eq!(text.parse::<RecipientKey>().unwrap(), public);
        assert_eq!(text.to_lowercase().parse::<RecipientKey>().unwrap(), public);
        assert!(SecretKey::parse(&text).is_err());
        let secret = secrecy::ExposeSecret::expose_secret(&key.to_text()).to_owned();
        assert!(secret.parse::<RecipientKey>().is_err());
        assert!(text[..text.len() - 1].parse::<RecipientKey>().is_err());
    }
}
