//! HPKE (RFC 9180) in base mode: X25519, HKDF-SHA256, ChaCha20-Poly1305. A box is `encapsulated key 32 | ciphertext | tag 16`.

use std::convert::Infallible;

use backstay_core::{Context, Error, Result};
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256, single_shot_open, single_shot_seal_with_rng,
};
use zeroize::{Zeroize, Zeroizing};

/// An X25519 public key.
pub type PublicKey = [u8; 32];
/// An X25519 private key.
pub type PrivateKey = Zeroizing<[u8; 32]>;

/// What every box of ours is bound to besides its associated data.
const INFO: &[u8] = b"backstay 2026-11-20 v1 hpke";

/// The key pair that belongs to 32 secret bytes (RFC 9180, `DeriveKeyPair`).
pub fn key_pair(secret: &[u8; 32]) -> Result<(PrivateKey, PublicKey)> {
    let (private, public) = X25519HkdfSha256::derive_keypair(secret);
    let mut private_bytes = Zeroizing::new([0; 32]);
    private_bytes.copy_from_slice(&private.to_bytes());
    let mut public_bytes = [0; 32];
    public_bytes.copy_from_slice(&public.to_bytes());
    Ok((private_bytes, public_bytes))
}

/// Seals to a public key.
pub fn seal(to: &PublicKey, aad: &[u8], plain: &[u8], ctx: &Context) -> Result<Vec<u8>> {
    let to = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to)
        .map_err(|_| Error::integrity("A public key of the repository is not a point of the curve"))?;
    let mut rng = SeededRng::new(ctx.random()?);
    let (encapsulated, ciphertext) = single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &to,
        INFO,
        plain,
        aad,
        &mut rng,
    )
    .map_err(|_| Error::integrity("Sealing to a public key of the repository failed"))?;
    let mut sealed = encapsulated.to_bytes().to_vec();
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Opens a box; `None` when it is not for this key or not what was sealed.
pub fn open(with: &PrivateKey, aad: &[u8], sealed: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let Some((encapsulated, ciphertext)) = sealed.split_at_checked(32) else { return Ok(None) };
    let with = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&**with)
        .map_err(|_| Error::internal("A private key has the wrong form"))?;
    let Ok(encapsulated) = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated) else { return Ok(None) };
    let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &with,
        &encapsulated,
        INFO,
        ciphertext,
        aad,
    );
    Ok(opened.ok().map(Zeroizing::new))
}

/// The output of BLAKE3 keyed with bytes from the context's random source, in the form the HPKE crate asks for.
struct SeededRng(blake3::OutputReader);

impl SeededRng {
    fn new(mut seed: [u8; 32]) -> Self {
        let reader = blake3::Hasher::new_keyed(&seed).finalize_xof();
        seed.zeroize();
        Self(reader)
    }
}

impl rand_core::TryRng for SeededRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(buffer);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for SeededRng {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_opens_with_its_key_and_context_alone() {
        let ctx = Context::default();
        let (private, public) = key_pair(&[7; 32]).unwrap();
        let (other, _) = key_pair(&[8; 32]).unwrap();
        let sealed = seal(&public, b"aad", b"secret", &ctx).unwrap();
        assert_eq!(sealed.len(), 32 + 6 + 16);
        assert_ne!(sealed, seal(&public, b"aad", b"secret", &ctx).unwrap());
        assert_eq!(&**open(&private, b"aad", &sealed).unwrap().unwrap(), b"secret");
        assert!(open(&other, b"aad", &sealed).unwrap().is_none());
        assert!(open(&private, b"aae", &sealed).unwrap().is_none());
        assert!(open(&private, b"aad", &sealed[..20]).unwrap().is_none());
    }

    #[test]
    fn the_key_pair_of_rfc_9180_appendix_a_1_comes_out() {
        let ikm = hex::decode("6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037").unwrap();
        let (_, public) = key_pair(&ikm.try_into().unwrap()).unwrap();
        assert_eq!(hex::encode(public), "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d");
    }
}
