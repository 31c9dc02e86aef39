//! What an image remembers of itself in a change token.

use backstay_core::{ChangeToken, Error, RangeSet, Result};
use minicbor::{Decode, Encode};

use super::identity::FileIdentity;

/// Tells tokens of images from those of other sources.
const MAGIC: &str = "backstay-image-1";

/// The state of an image at one moment. CBOR; fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Token {
    #[n(0)]
    magic: String,
    /// The format it was opened as: the same file has another content as another format.
    #[n(1)]
    pub format: String,
    #[n(2)]
    pub size: u64,
    /// Every file that it is made of, before anything was read from them.
    #[n(3)]
    pub files: Vec<FileIdentity>,
    /// A file had been written so shortly before that a later write may have left the same time.
    #[n(4)]
    pub racy: bool,
    #[n(5)]
    pub bitmap: Option<TokenBitmap>,
}

/// A bitmap that was enabled and consistent, with every bit that was set.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct TokenBitmap {
    #[n(0)]
    pub name: String,
    #[n(1)]
    pub granularity: u64,
    /// Clear and set runs in turn, each as the LEB128 number of its bits.
    #[cbor(n(2), with = "minicbor::bytes")]
    runs: Vec<u8>,
}

impl Token {
    pub(crate) fn new(format: &str, size: u64, files: Vec<FileIdentity>, racy: bool) -> Self {
        Self { magic: MAGIC.into(), format: format.into(), size, files, racy, bitmap: None }
    }

    /// As bytes; without its bitmap if it is too large with it.
    pub(crate) fn seal(mut self) -> Result<ChangeToken> {
        let encode = |token: &Self| {
            minicbor::to_vec(token)
                .map_err(|error| Error::internal(format!("A change token cannot be encoded: {error}")))
        };
        let mut bytes = encode(&self)?;
        if bytes.len() > ChangeToken::MAX_BYTES {
            self.bitmap = None;
            bytes = encode(&self)?;
        }
        ChangeToken::new(bytes)
    }

    /// From bytes; `None` for a token of another sort.
    pub(crate) fn open(token: &ChangeToken) -> Option<Self> {
        minicbor::decode::<Self>(token.as_bytes()).ok().filter(|token| token.magic == MAGIC)
    }
}

impl TokenBitmap {
    pub(crate) fn new(name: &str, granularity: u64, bits: &RangeSet) -> Self {
        let mut runs = Vec::new();
        let mut at = 0;
        for range in bits.ranges() {
            // The last bit may stand for less than its granularity.
            let (first, last) = (range.start / granularity, range.end.div_ceil(granularity));
            put_number(&mut runs, first - at);
            put_number(&mut runs, last - first);
            at = last;
        }
        Self { name: name.into(), granularity, runs }
    }

    /// The bytes of a disk of `size` bytes whose bits were set; `None` if the token makes no sense.
    pub(crate) fn bits(&self, size: u64) -> Option<RangeSet> {
        let mut set = RangeSet::new();
        let mut rest = self.runs.as_slice();
        let mut at = 0u64;
        while !rest.is_empty() {
            let first = at.checked_add(take_number(&mut rest)?)?;
            at = first.checked_add(take_number(&mut rest)?)?;
            set.insert(first.checked_mul(self.granularity)?..at.checked_mul(self.granularity)?.min(size));
        }
        Some(set)
    }
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_bits_of_a_token_come_back(ranges in prop::collection::vec((0u64..1 << 30, 1u64..1 << 20), 0..40), shift in 9u32..20, cut in 0u64..4096) {
            let (granularity, size) = (1u64 << shift, (1 << 31) - cut);
            let bits: RangeSet = ranges
                .iter()
                .map(|(start, len)| start >> shift << shift..(start + len).next_multiple_of(granularity).min(size))
                .collect();
            let bitmap = TokenBitmap::new("b", granularity, &bits);
            prop_assert_eq!(bitmap.bits(size), Some(bits));
            let token = Token { bitmap: Some(bitmap), ..Token::new("raw", size, Vec::new(), false) };
            prop_assert_eq!(Token::open(&token.clone().seal().unwrap()), Some(token));
        }

        #[test]
        fn bytes_that_are_no_token_are_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Token::open(&ChangeToken::new(bytes.clone()).unwrap()), None);
            let _never_panics = TokenBitmap { name: String::new(), granularity: 1 << 16, runs: bytes }.bits(1 << 40);
        }
    }
}
