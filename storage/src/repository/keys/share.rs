//! `epochs/<slot>/<number>`: a slot's share of the keys of a later epoch.
//!
//! The owner seals it to the slot's public key, whose secret is not at hand, and signs it. The slot pins the owner, so that no
//! other proof is needed.

use backstay_core::{Context, Error, ObjectKey, Result};
use minicbor::{Decode, Encode, bytes::ByteVec};
use zeroize::Zeroizing;

use super::{EpochKeys, KeyBundle};
use crate::repository::{
    crypto::{Domain, ObjectType, hpke, sign},
    format::{self, chain::RosterEntry},
    ids::{ObjectHash, SignerId},
};

/// The largest share that is read.
pub const MAX_SHARE_BYTES: usize = 64 << 10;

/// The signed body of a share.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EpochShare {
    /// Whose it is.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub slot: [u8; 16],
    /// Which epoch.
    #[n(1)]
    pub epoch: u32,
    /// The number of the chain's record that it was made for. One that another record got there first starts no epoch.
    #[n(2)]
    pub record: u64,
    /// BLAKE3 over the payload's plaintext: the box's cipher commits to no key by itself.
    #[n(3)]
    pub commitment: ObjectHash,
    /// HPKE box with the [`EpochKeys`].
    #[n(4)]
    pub payload: ByteVec,
}

impl EpochShare {
    /// Seals what the capability of a slot has of an epoch's keys.
    pub fn create(
        to: &RosterEntry,
        keys: &EpochKeys,
        record: u64,
        repository: [u8; 16],
        ctx: &Context,
    ) -> Result<Self> {
        let plain = Zeroizing::new(format::encode(&keys.restrict(to.capability))?);
        let aad = payload_aad(repository, &to.slot, keys.epoch);
        Ok(Self {
            slot: to.slot,
            epoch: keys.epoch,
            record,
            commitment: commitment(&plain),
            payload: hpke::seal(&to.recipient, &aad, &plain, ctx)?.into(),
        })
    }

    /// The folder of a slot's shares.
    pub fn folder(slot: &[u8; 16]) -> Result<ObjectKey> {
        ObjectKey::new(format!("epochs/{}", hex::encode(slot)))
    }

    /// The object name of a share.
    pub fn key(slot: &[u8; 16], epoch: u32) -> Result<ObjectKey> {
        ObjectKey::new(format!("epochs/{}/{epoch}", hex::encode(slot)))
    }

    /// The object's bytes: the share, signed by the owner.
    pub fn to_object(&self, bundle: &KeyBundle, repository: [u8; 16]) -> Result<Vec<u8>> {
        let (key, signer) = (Self::key(&self.slot, self.epoch)?, bundle.owner_signing_key()?);
        format::encode(&sign::sign(&signer, ObjectType::EpochShare, &domain(repository), &key, format::encode(self)?))
    }

    /// Reads a share that this owner has signed.
    pub fn from_object(key: &ObjectKey, object: &[u8], owner: &SignerId, repository: [u8; 16]) -> Result<Self> {
        let read = || {
            if object.len() > MAX_SHARE_BYTES {
                return Err(Error::integrity("A share in an epoch is far too large"));
            }
            let signed: sign::Signed = format::decode(object, "share in an epoch")?;
            if signed.signer != *owner {
                return Err(Error::integrity("A share in an epoch is not signed by the repository's owner"));
            }
            signed.verify(ObjectType::EpochShare, &domain(repository), key)?;
            let share: Self = format::decode(&signed.body, "share in an epoch")?;
            if Self::key(&share.slot, share.epoch)? != *key {
                return Err(Error::integrity("A share in an epoch is not what its name says"));
            }
            Ok(share)
        };
        read().map_err(|error| error.with_context("object", key))
    }

    /// Opens it with the slot's private key.
    pub fn open(&self, with: &hpke::PrivateKey, repository: [u8; 16]) -> Result<EpochKeys> {
        let aad = payload_aad(repository, &self.slot, self.epoch);
        let damaged = || {
            Error::integrity("A share in an epoch does not open: it is damaged, or was made for another slot")
                .with_context("epoch", self.epoch)
        };
        let plain = hpke::open(with, &aad, &self.payload)?.ok_or_else(damaged)?;
        if commitment(&plain) != self.commitment {
            return Err(damaged());
        }
        let keys: EpochKeys = format::decode(&plain, "keys of an epoch")?;
        if keys.epoch == self.epoch { Ok(keys) } else { Err(damaged()) }
    }
}

fn commitment(plain: &[u8]) -> ObjectHash {
    ObjectHash(blake3::derive_key("backstay 2026-11-20 v1 epoch commitment", plain))
}

fn payload_aad(repository: [u8; 16], slot: &[u8; 16], epoch: u32) -> Vec<u8> {
    let mut id = slot.to_vec();
    id.extend_from_slice(&epoch.to_le_bytes());
    domain(repository).aad(ObjectType::EpochShare, &id)
}

/// Like slots: what brings the keys of an epoch is sealed in none.
const fn domain(repository: [u8; 16]) -> Domain {
    Domain { repository, epoch: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::keys::Capability;

    #[test]
    fn a_share_opens_for_its_slot_alone_and_gives_what_its_capability_has() {
        let ctx = Context::default();
        let bundle = KeyBundle::generate(&ctx).unwrap();
        let owner = SignerId(bundle.owner_signing_key().unwrap().verifying_key().to_bytes());
        let (private, recipient) = hpke::key_pair(&[5; 32]).unwrap();
        let (other, _) = hpke::key_pair(&[6; 32]).unwrap();
        let keys = EpochKeys::generate(9, &ctx).unwrap();
        for capability in [Capability::Owner, Capability::Writer, Capability::Reader, Capability::Keeper] {
            let to = RosterEntry { slot: [1; 16], capability, recipient, signer: None, until: None };
            let share = EpochShare::create(&to, &keys, 3, [2; 16], &ctx).unwrap();
            let object = share.to_object(&bundle, [2; 16]).unwrap();
            let key = EpochShare::key(&[1; 16], 9).unwrap();
            let read = EpochShare::from_object(&key, &object, &owner, [2; 16]).unwrap();
            assert_eq!(read, share);
            let opened = read.open(&private, [2; 16]).unwrap();
            assert_eq!(opened.structure, keys.structure);
            assert_eq!(opened.data_private().is_some(), capability.may_read());
            assert!(read.open(&other, [2; 16]).is_err());
            assert!(read.open(&private, [3; 16]).is_err());
            assert!(EpochShare { epoch: 8, ..read.clone() }.open(&private, [2; 16]).is_err());
            assert!(EpochShare::from_object(&EpochShare::key(&[1; 16], 8).unwrap(), &object, &owner, [2; 16]).is_err());
            assert!(EpochShare::from_object(&key, &object, &SignerId([7; 32]), [2; 16]).is_err());
            for at in 0..object.len() {
                let mut damaged = object.clone();
                damaged[at] ^= 1;
                assert!(EpochShare::from_object(&key, &damaged, &owner, [2; 16]).is_err(), "byte {at}");
            }
        }
    }
}
