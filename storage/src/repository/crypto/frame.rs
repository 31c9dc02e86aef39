//! Frames: sealed chunks and map nodes inside packs. `nonce 24 | sealed(codec 1 | payload) | tag 16`, nothing in clear.

use backstay_core::{Context, Error, Result};

use super::{Domain, ObjectType, aead};

/// What a frame adds to its payload.
pub const OVERHEAD_BYTES: usize = aead::NONCE_BYTES + 1 + aead::TAG_BYTES;

/// How the payload of a frame is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// One zstd frame (RFC 8878).
    Zstd = 1,
}

/// What a frame holds.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// A chunk or a node.
    pub kind: ObjectType,
    /// Its id.
    pub id: &'a [u8; 32],
    /// How the payload is packed.
    pub codec: Codec,
    /// The packed bytes.
    pub payload: &'a [u8],
}

/// Appends a frame to `out`.
pub fn seal(key: &[u8; 32], domain: &Domain, content: Content<'_>, out: &mut Vec<u8>, ctx: &Context) -> Result<()> {
    let Content { kind, id, codec, payload } = content;
    let mut aad = domain.aad(kind, id);
    aad.push(codec as u8);
    let nonce = aead::synthetic_nonce(key, &ctx.random()?, &aad, payload);
    aad.pop();
    out.reserve(payload.len() + OVERHEAD_BYTES);
    out.extend_from_slice(&nonce);
    let from = out.len();
    out.push(codec as u8);
    out.extend_from_slice(payload);
    aead::seal_tail(key, &nonce, &aad, out, from)
}

/// Opens a frame in place: codec and payload.
pub fn open<'a>(
    key: &[u8; 32],
    domain: &Domain,
    kind: ObjectType,
    id: &[u8; 32],
    frame: &'a mut [u8],
) -> Result<(Codec, &'a [u8])> {
    let damaged = || Error::integrity("A frame of a pack is damaged or was tampered with: it does not open");
    let Some((nonce, sealed)) = frame.split_first_chunk_mut::<{ aead::NONCE_BYTES }>() else { return Err(damaged()) };
    let plain = aead::open_in_place(key, nonce, &domain.aad(kind, id), sealed)?.ok_or_else(damaged)?;
    let (codec, payload) = plain.split_first().ok_or_else(damaged)?;
    match codec {
        0 => Ok((Codec::Raw, payload)),
        1 => Ok((Codec::Zstd, payload)),
        other => Err(Error::unsupported(format!(
            "A frame has codec {other}, which this build does not know: use a newer Backstay"
        ))),
    }
}
