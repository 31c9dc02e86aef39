//! `keys/<slot>`: one way into the repository.
//!
//! The payload is an HPKE box to the slot's own public key. A MAC under the slot's secret covers everything, so that whoever
//! can write to the store cannot put keys of their own into somebody's slot; the owner's signature covers it for those who
//! check from outside.

use backstay_core::{Context, Error, ErrorKind, ObjectKey, Result};
use minicbor::{Decode, Encode, bytes::ByteVec};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::{Capability, Credential, KeyBundle, Secret};
use crate::repository::{
    crypto::{self, Domain, ObjectType, hpke, kdf::KdfParameters, sign},
    format,
    ids::{ObjectHash, SignerId},
};

/// The largest slot object that is read.
pub const MAX_SLOT_BYTES: usize = 1 << 20;

/// How the slot's secret comes about.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SlotKind {
    /// From a passphrase.
    #[n(0)]
    Passphrase {
        /// The cost of a guess.
        #[n(0)]
        kdf: KdfParameters,
        /// Random.
        #[cbor(n(1), with = "minicbor::bytes")]
        salt: [u8; 16],
    },
    /// From a key file.
    #[n(1)]
    KeyFile,
    /// From the recovery key that is shown once.
    #[n(2)]
    Recovery,
    /// The owner of an X25519 key opens it; there is no secret that the slot could be made with.
    #[n(3)]
    Recipient,
}

impl SlotKind {
    /// Its name in listings.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Passphrase { .. } => "passphrase",
            Self::KeyFile => "key-file",
            Self::Recovery => "recovery",
            Self::Recipient => "recipient",
        }
    }

    /// The secret that this credential gives for a slot of this kind; `None` when it is of another kind.
    pub fn secret(&self, credential: &Credential) -> Result<Option<Secret>> {
        match (self, credential) {
            (Self::Passphrase { kdf, salt }, Credential::Passphrase(passphrase)) => {
                kdf.derive(passphrase.expose_secret().as_bytes(), salt).map(Some)
            }
            (Self::KeyFile | Self::Recovery | Self::Recipient, Credential::Key(key))
            | (Self::KeyFile | Self::Recovery | Self::Recipient, Credential::Recipient { key, .. }) => {
                Ok(Some(key.secret().clone()))
            }
            _ => Ok(None),
        }
    }
}

/// What every slot of a repository says of it.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    /// The repository.
    pub repository: [u8; 16],
    /// Hash of the object `config`.
    pub config: ObjectHash,
    /// Who signs config, slots and rosters.
    pub owner: SignerId,
}

/// The signed body of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Slot {
    /// Random; also its object name.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub id: [u8; 16],
    /// How its secret comes about.
    #[n(1)]
    pub kind: SlotKind,
    /// What it may do.
    #[n(2)]
    pub capability: Capability,
    /// What the operator calls it.
    #[n(3)]
    pub label: String,
    /// The repository.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub repository: [u8; 16],
    /// Hash of the object `config`.
    #[n(5)]
    pub config: ObjectHash,
    /// Who signs config, slots and rosters.
    #[n(6)]
    pub owner: SignerId,
    /// Where keys of new epochs are sealed to.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub recipient: [u8; 32],
    /// BLAKE3 over the payload's plaintext: the box's cipher commits to no key by itself.
    #[n(8)]
    pub commitment: ObjectHash,
    /// HPKE box with the [`KeyBundle`].
    #[n(9)]
    pub payload: ByteVec,
    /// The bytes that the slot was read from or is written as: what the MAC is over, fields of later versions among them.
    #[cbor(skip)]
    encoded: Vec<u8>,
    #[cbor(skip)]
    mac: Option<[u8; 32]>,
}

/// What the owner signs: a slot and its MAC.
#[derive(Encode, Decode)]
#[cbor(map)]
struct SlotWithMac {
    /// The slot as CBOR.
    #[n(0)]
    slot: ByteVec,
    /// Keyed BLAKE3 over it under the slot's secret; recipients have none.
    #[n(1)]
    mac: Option<ByteVec>,
}

impl Slot {
    /// Makes a slot for a bundle.
    pub fn create(
        kind: SlotKind,
        label: &str,
        secret: &Secret,
        bundle: &KeyBundle,
        pinned: &Pinned,
        ctx: &Context,
    ) -> Result<Self> {
        let (_, recipient) = hpke::key_pair(secret)?;
        let mut slot = Self::sealed_to(recipient, kind, label, bundle, pinned, ctx)?;
        slot.mac = Some(slot.mac_under(secret));
        Ok(slot)
    }

    /// Makes a slot for a public key. It has no MAC: who opens it must know the owner.
    pub fn sealed_to(
        recipient: [u8; 32],
        kind: SlotKind,
        label: &str,
        bundle: &KeyBundle,
        pinned: &Pinned,
        ctx: &Context,
    ) -> Result<Self> {
        let id: [u8; 16] = ctx.random()?;
        let plain = Zeroizing::new(format::encode(bundle)?);
        let Pinned { repository, config, owner } = *pinned;
        let mut slot = Self {
            id,
            kind,
            capability: bundle.capability,
            label: label.to_owned(),
            repository,
            config,
            owner,
            recipient,
            commitment: commitment(&plain),
            payload: hpke::seal(&recipient, &payload_aad(repository, &id), &plain, ctx)?.into(),
            encoded: Vec::new(),
            mac: None,
        };
        slot.encoded = format::encode(&slot)?;
        Ok(slot)
    }

    /// The object name of a slot.
    pub fn key(id: &[u8; 16]) -> Result<ObjectKey> {
        ObjectKey::new(format!("keys/{}", hex::encode(id)))
    }

    /// The object's bytes: the slot, signed by the owner.
    pub fn to_object(&self, bundle: &KeyBundle) -> Result<Vec<u8>> {
        let key = Self::key(&self.id)?;
        let body = SlotWithMac { slot: self.encoded.clone().into(), mac: self.mac.map(|mac| mac.to_vec().into()) };
        let domain = slot_domain(self.repository);
        let signed = sign::sign(&bundle.owner_signing_key()?, ObjectType::Slot, &domain, &key, format::encode(&body)?);
        format::encode(&signed)
    }

    /// Reads a slot object. Nothing in it can be trusted before [`Self::open`] has found its MAC right.
    pub fn from_object(key: &ObjectKey, object: &[u8]) -> Result<Self> {
        if object.len() > MAX_SLOT_BYTES {
            return Err(Error::integrity("A key slot is far too large").with_context("object", key));
        }
        let signed: sign::Signed = format::decode(object, "key slot")?;
        let stored: SlotWithMac = format::decode(&signed.body, "key slot")?;
        let mut slot: Self = format::decode(&stored.slot, "key slot")?;
        slot.mac = stored.mac.and_then(|mac| mac.as_slice().try_into().ok());
        slot.encoded = stored.slot.into();
        if signed.signer != slot.owner || Self::key(&slot.id)? != *key {
            return Err(
                Error::integrity("A key slot is not what its name or its signature says").with_context("object", key)
            );
        }
        signed.verify(ObjectType::Slot, &slot_domain(slot.repository), key)?;
        Ok(slot)
    }

    /// Opens the slot; `None` when the secret is not its own. One of kind *recipient* proves nothing of its owner.
    pub fn open(&self, secret: &Secret) -> Result<Option<KeyBundle>> {
        let (private, recipient) = hpke::key_pair(secret)?;
        if recipient != self.recipient {
            return Ok(None);
        }
        let forged = || {
            Error::new(ErrorKind::Integrity, "A key slot was damaged or forged; open the repository with another slot")
        };
        // A slot for a public key has none; the caller compares the owner with one that is known.
        if self.kind != SlotKind::Recipient {
            let mac = self.mac.ok_or_else(forged)?;
            // BLAKE3's Hash compares in constant time.
            if blake3::Hash::from_bytes(mac) != blake3::Hash::from_bytes(self.mac_under(secret)) {
                return Err(forged());
            }
        }
        let plain = hpke::open(&private, &payload_aad(self.repository, &self.id), &self.payload)?.ok_or_else(forged)?;
        if commitment(&plain) != self.commitment {
            return Err(forged());
        }
        let bundle: KeyBundle = format::decode(&plain, "key bundle")?;
        if bundle.capability != self.capability {
            return Err(forged());
        }
        Ok(Some(bundle))
    }

    fn mac_under(&self, secret: &Secret) -> [u8; 32] {
        *blake3::keyed_hash(&crypto::subkey(secret, "slot mac"), &self.encoded).as_bytes()
    }
}

fn commitment(plain: &[u8]) -> ObjectHash {
    ObjectHash(blake3::derive_key("backstay 2026-11-20 v1 slot commitment", plain))
}

fn payload_aad(repository: [u8; 16], id: &[u8; 16]) -> Vec<u8> {
    slot_domain(repository).aad(ObjectType::Slot, id)
}

/// Slots outlive epochs: their context names epoch 0.
const fn slot_domain(repository: [u8; 16]) -> Domain {
    Domain { repository, epoch: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(secret: &Secret) -> (Slot, KeyBundle) {
        let ctx = Context::default();
        let bundle = KeyBundle::generate(&ctx).unwrap();
        let owner = SignerId(bundle.owner_signing_key().unwrap().verifying_key().to_bytes());
        let pinned = Pinned { repository: [2; 16], config: ObjectHash([1; 32]), owner };
        let slot = Slot::create(SlotKind::KeyFile, "x", secret, &bundle, &pinned, &ctx).unwrap();
        (slot, bundle)
    }

    #[test]
    fn a_slot_opens_with_its_secret_and_no_other() {
        let secret = Zeroizing::new([5; 32]);
        let (slot, bundle) = slot(&secret);
        let opened = slot.open(&secret).unwrap().unwrap();
        assert_eq!(opened.epochs[0].structure, bundle.epochs[0].structure);
        assert!(slot.open(&Zeroizing::new([6; 32])).unwrap().is_none());
        let key = Slot::key(&slot.id).unwrap();
        let object = slot.to_object(&bundle).unwrap();
        assert_eq!(Slot::from_object(&key, &object).unwrap(), slot);
        for at in 0..object.len() {
            let mut damaged = object.clone();
            damaged[at] ^= 1;
            assert!(Slot::from_object(&key, &damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn keys_of_somebody_else_in_a_slot_are_refused_even_when_signed_by_them() {
        let secret = Zeroizing::new([5; 32]);
        let (mine, _) = slot(&secret);
        let ctx = Context::default();
        let theirs = KeyBundle::generate(&ctx).unwrap();
        // The attacker knows the public key of my slot, and nothing of my secret.
        let plain = format::encode(&theirs).unwrap();
        let mut forged = Slot {
            owner: SignerId(theirs.owner_signing_key().unwrap().verifying_key().to_bytes()),
            commitment: commitment(&plain),
            payload: hpke::seal(&mine.recipient, &payload_aad([2; 16], &mine.id), &plain, &ctx).unwrap().into(),
            ..mine
        };
        forged.encoded = format::encode(&forged).unwrap();
        let key = Slot::key(&forged.id).unwrap();
        let parsed = Slot::from_object(&key, &forged.to_object(&theirs).unwrap()).unwrap();
        assert_eq!(parsed.open(&secret).err().map(|error| error.kind()), Some(ErrorKind::Integrity));
    }
}
