//! Seals the pages of index segments: `nonce 24 | ciphertext | tag 16`, bound to segment and page.

use backstay_core::{Error, Result};

use crate::repository::{
    crypto::{Domain, ObjectType, aead, envelope},
    index::{PageCipher, Part},
    keys::{Keyring, Secret},
};

/// The cipher of one segment.
pub struct SegmentCipher {
    page_key: Secret,
    footer_key: Secret,
    domain: Domain,
    salt: [u8; 16],
}

impl SegmentCipher {
    /// For the segment with this salt, sealed in this epoch.
    pub fn of(keyring: &Keyring, epoch: u32, salt: [u8; 16]) -> Result<std::sync::Arc<dyn PageCipher>> {
        let structure = &keyring.epoch(epoch)?.structure;
        Ok(std::sync::Arc::new(Self {
            page_key: envelope::key_for(structure, ObjectType::IndexPage),
            footer_key: envelope::key_for(structure, ObjectType::IndexFooter),
            domain: keyring.domain(epoch),
            salt,
        }))
    }

    fn bound(&self, part: Part) -> (&Secret, Vec<u8>) {
        let (key, kind, number) = match part {
            Part::Page(number) => (&self.page_key, ObjectType::IndexPage, number),
            Part::Footer => (&self.footer_key, ObjectType::IndexFooter, 0),
        };
        let mut id = self.salt.to_vec();
        id.extend_from_slice(&number.to_le_bytes());
        (key, self.domain.aad(kind, &id))
    }
}

impl PageCipher for SegmentCipher {
    fn seal(&self, part: Part, plain: &[u8]) -> Result<Vec<u8>> {
        let (key, aad) = self.bound(part);
        // The salt is the fresh randomness: it is drawn anew for every segment.
        let mut fresh = [0; 32];
        fresh[..16].copy_from_slice(&self.salt);
        let nonce = aead::synthetic_nonce(key, &fresh, &aad, plain);
        let mut sealed = Vec::with_capacity(plain.len() + aead::NONCE_BYTES + aead::TAG_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        aead::seal_tail(key, &nonce, &aad, &mut sealed, aead::NONCE_BYTES)?;
        Ok(sealed)
    }

    fn open(&self, part: Part, sealed: &[u8]) -> Result<Vec<u8>> {
        let damaged =
            || Error::integrity("A part of an index segment is damaged or was tampered with: it does not open");
        let (key, aad) = self.bound(part);
        let (nonce, ciphertext) = sealed.split_first_chunk::<{ aead::NONCE_BYTES }>().ok_or_else(damaged)?;
        let mut plain = ciphertext.to_vec();
        let len = aead::open_in_place(key, nonce, &aad, &mut plain)?.map(|plain| plain.len()).ok_or_else(damaged)?;
        plain.truncate(len);
        Ok(plain)
    }
}
