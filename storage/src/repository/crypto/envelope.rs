//! Sealed objects: a clear header that names the key epoch, then one sealed piece.
//!
//! `"BKST" 4 | suite 1 | type 1 | version 2 LE | epoch 4 LE | nonce 24 | ciphertext | tag 16`

use backstay_core::{Context, Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::{Domain, FORMAT_VERSION, ObjectType, SUITE, aead};

const MAGIC: &[u8; 4] = b"BKST";
const HEADER_BYTES: usize = 12;
/// What sealing adds.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + aead::NONCE_BYTES + aead::TAG_BYTES;

/// The key that objects of one type are sealed with.
#[must_use]
pub fn key_for(structure_key: &[u8; 32], kind: ObjectType) -> Zeroizing<[u8; 32]> {
    super::subkey(structure_key, &format!("structure object {}", kind as u8))
}

/// Seals `plain` as an object of this type under `id`.
pub fn seal(
    structure_key: &[u8; 32],
    domain: &Domain,
    kind: ObjectType,
    id: &[u8],
    plain: &[u8],
    ctx: &Context,
) -> Result<Vec<u8>> {
    let key = key_for(structure_key, kind);
    let aad = domain.aad(kind, id);
    let nonce = aead::synthetic_nonce(&key, &ctx.random()?, &aad, plain);
    let mut object = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
    object.extend_from_slice(MAGIC);
    object.extend_from_slice(&[SUITE, kind as u8]);
    object.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    object.extend_from_slice(&domain.epoch.to_le_bytes());
    object.extend_from_slice(&nonce);
    object.extend_from_slice(plain);
    aead::seal_tail(&key, &nonce, &aad, &mut object, HEADER_BYTES + aead::NONCE_BYTES)?;
    Ok(object)
}

/// The epoch that an object says it is sealed in. Checks all of the header but that.
pub fn epoch_of(kind: ObjectType, object: &[u8]) -> Result<u32> {
    let damaged = || Error::integrity("An object is damaged: its header is not one of Backstay's");
    if object.len() < OVERHEAD_BYTES || &object[..4] != MAGIC {
        return Err(damaged());
    }
    let version = u16::from_le_bytes([object[6], object[7]]);
    if object[4] != SUITE || version != FORMAT_VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "An object has format version {version}, suite {}; this build knows version {FORMAT_VERSION}, suite {SUITE}: use a newer Backstay",
                object[4]
            ),
        ));
    }
    if object[5] != kind as u8 {
        return Err(Error::integrity(format!(
            "An object of type {} stands where one of type {} belongs",
            object[5], kind as u8
        )));
    }
    Ok(u32::from_le_bytes([object[8], object[9], object[10], object[11]]))
}

/// Opens an object. `domain.epoch` must be what [`epoch_of`] said.
pub fn open(structure_key: &[u8; 32], domain: &Domain, kind: ObjectType, id: &[u8], object: &[u8]) -> Result<Vec<u8>> {
    if epoch_of(kind, object)? != domain.epoch {
        return Err(Error::internal("Object opened with the key of another epoch"));
    }
    let mut nonce = [0; aead::NONCE_BYTES];
    nonce.copy_from_slice(&object[HEADER_BYTES..HEADER_BYTES + aead::NONCE_BYTES]);
    let mut sealed = object[HEADER_BYTES + aead::NONCE_BYTES..].to_vec();
    let key = key_for(structure_key, kind);
    let plain = aead::open_in_place(&key, &nonce, &domain.aad(kind, id), &mut sealed)?.map(|plain| plain.len());
    let len = plain.ok_or_else(|| Error::integrity("An object is damaged or was tampered with: it does not open"))?;
    sealed.truncate(len);
    Ok(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_an_object_is_noticed() {
        let ctx = Context::default();
        let domain = Domain { repository: [9; 16], epoch: 3 };
        let object = seal(&[1; 32], &domain, ObjectType::Point, b"id", b"plain text", &ctx).unwrap();
        assert_eq!(open(&[1; 32], &domain, ObjectType::Point, b"id", &object).unwrap(), b"plain text");
        for bit in 0..object.len() * 8 {
            let mut flipped = object.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&[1; 32], &domain, ObjectType::Point, b"id", &flipped).is_err(), "bit {bit}");
        }
        assert!(open(&[1; 32], &domain, ObjectType::Point, b"ie", &object).is_err());
        assert!(open(&[1; 32], &domain, ObjectType::Chain, b"id", &object).is_err());
        for len in 0..object.len() {
            assert!(open(&[1; 32], &domain, ObjectType::Point, b"id", &object[..len]).is_err());
        }
    }
}
