//! What a person or a machine opens a repository with.

use backstay_core::{Context, Error, Result};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{RecipientKey, Secret};
use crate::repository::{crypto::hpke, ids::SignerId};

/// What opens a slot.
#[derive(Clone)]
pub enum Credential {
    /// Something that a person remembers.
    Passphrase(SecretString),
    /// A key file or a recovery key.
    Key(SecretKey),
    /// A key whose public half somebody else has made a slot for. Nothing in such a slot proves who made it, so that it is opened
    /// only for an owner who is known.
    Recipient {
        /// The key.
        key: SecretKey,
        /// The public key of the repository's owner, as the owner has told it.
        owner: SignerId,
    },
}

impl Credential {
    /// A passphrase, or a recovery key typed where a passphrase is asked for.
    #[must_use]
    pub fn passphrase(text: impl Into<String>) -> Self {
        let text = SecretString::from(text.into());
        match SecretKey::parse(text.expose_secret()) {
            Ok(key) => Self::Key(key),
            Err(_) => Self::Passphrase(text),
        }
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Credential::Passphrase(…)",
            Self::Key(_) => "Credential::Key(…)",
            Self::Recipient { .. } => "Credential::Recipient(…)",
        })
    }
}

/// 32 random bytes that open a slot: the content of a key file, or a recovery key on paper.
#[derive(Clone)]
pub struct SecretKey(Secret);

/// No `I`, `L`, `O` or `U`, so that what is written by hand is read right.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const PREFIX: &str = "BACKSTAY";
const CHECK: &str = "backstay 2026-11-20 v1 key check";
const CHECK_BYTES: usize = 3;

impl SecretKey {
    /// A fresh key.
    pub fn generate(ctx: &Context) -> Result<Self> {
        Ok(Self(Zeroizing::new(ctx.random()?)))
    }

    pub(crate) const fn secret(&self) -> &Secret {
        &self.0
    }

    /// `BACKSTAY-XXXXXXX-…`: eight groups of seven letters and digits, the last of which notice a slip of the pen.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        SecretString::from(to_groups(PREFIX, CHECK, &self.0).as_str().to_owned())
    }

    /// Reads [`Self::to_text`] back: case, spaces and dashes do not matter, `I`/`L` are one, `O` is zero.
    pub fn parse(text: &str) -> Result<Self> {
        from_groups(PREFIX, CHECK, text).map(Self)
    }

    /// What slots for this key are sealed to: may be seen by everybody.
    pub fn recipient(&self) -> Result<RecipientKey> {
        Ok(RecipientKey(hpke::key_pair(&self.0)?.1))
    }
}

fn check(context: &str, bytes: &[u8; 32]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&blake3::derive_key(context, bytes)[..CHECK_BYTES]);
    check
}

/// 32 bytes and their check as `PREFIX-XXXXXXX-…`.
pub(super) fn to_groups(prefix: &str, context: &str, plain: &[u8; 32]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(plain.to_vec());
    bytes.extend_from_slice(&check(context, plain));
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + 64));
    text.push_str(prefix);
    // 35 bytes are exactly 56 letters of 5 bits.
    for position in 0..bytes.len() * 8 / 5 {
        if position % 7 == 0 {
            text.push('-');
        }
        let (at, shift) = (position * 5 / 8, position * 5 % 8);
        let pair = u16::from(bytes[at]) << 8 | bytes.get(at + 1).copied().map_or(0, u16::from);
        text.push(char::from(ALPHABET[usize::from(pair >> (11 - shift)) & 31]));
    }
    text
}

/// Reads [`to_groups`] back.
pub(super) fn from_groups(prefix: &str, context: &str, text: &str) -> Result<Secret> {
    let bad = || {
        Error::invalid_input(format!(
            "Not a Backstay key: it begins with {prefix} and has eight groups of seven letters and digits"
        ))
    };
    let compact: Zeroizing<String> = Zeroizing::new(
        text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_uppercase()).collect(),
    );
    let digits = compact.strip_prefix(prefix).filter(|digits| digits.len() == 56).ok_or_else(bad)?;
    let (mut bytes, mut bits, mut held) = (Zeroizing::new(Vec::with_capacity(35)), 0_u32, 0_u32);
    for digit in digits.bytes() {
        let digit = match digit {
            b'I' | b'L' => b'1',
            b'O' => b'0',
            other => other,
        };
        let value = ALPHABET.iter().position(|letter| *letter == digit).ok_or_else(bad)?;
        bits = bits << 5 | value as u32;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    let (plain, found) = bytes.split_first_chunk::<32>().ok_or_else(bad)?;
    if check(context, plain) != found {
        return Err(Error::invalid_input("A letter of the Backstay key is wrong: compare it with the original"));
    }
    Ok(Zeroizing::new(*plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_paper_and_a_slip_of_the_pen_is_noticed() {
        for fill in [0_u8, 0xff, 0x5a] {
            let key = SecretKey(Zeroizing::new(std::array::from_fn(|at| fill ^ at as u8)));
            let text = key.to_text().expose_secret().to_owned();
            assert_eq!(text.len(), 8 + 56 + 8);
            assert_eq!(**SecretKey::parse(&text).unwrap().secret(), **key.secret());
            let sloppy = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
            assert_eq!(**SecretKey::parse(&sloppy).unwrap().secret(), **key.secret());
            let slip =
                if text.ends_with('A') { text.replace("-A", "-B") } else { format!("{}A", &text[..text.len() - 1]) };
            assert!(slip == text || SecretKey::parse(&slip).is_err());
        }
        assert!(SecretKey::parse("correct horse battery staple").is_err());
        assert!(matches!(Credential::passphrase("correct horse"), Credential::Passphrase(_)));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert_eq!(format!("{:?}", Credential::passphrase("hunter2")), "Credential::Passphrase(…)");
    }
}
