//! Records: everything that is stored as CBOR (RFC 8949) with numbered fields. `docs/format.md` describes each.
//!
//! A field number is never used again for something else. Decoders skip numbers they do not know.

pub mod chain;
pub mod checks;
pub mod config;
pub mod hold;
pub mod lost;
pub mod point;
pub mod session;

use backstay_core::{Error, Result};

/// Encodes a record.
pub fn encode<T: minicbor::Encode<()>>(record: &T) -> Result<Vec<u8>> {
    minicbor::to_vec(record).map_err(|_| Error::internal("A record could not be encoded"))
}

/// Decodes a record that was authenticated before: bytes that do not decode are damage or a newer format.
pub fn decode<'b, T: minicbor::Decode<'b, ()>>(bytes: &'b [u8], what: &'static str) -> Result<T> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let record = decoder.decode().map_err(|error| {
        let error = if error.is_unknown_variant() {
            Error::unsupported("A record says something that this build does not know: use a newer Backstay")
        } else {
            Error::integrity(format!("A record does not decode: {error}"))
        };
        error.with_context("record", what)
    })?;
    if decoder.position() != bytes.len() {
        return Err(Error::integrity("A record has bytes after its end").with_context("record", what));
    }
    Ok(record)
}
