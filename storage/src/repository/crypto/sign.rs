//! Ed25519 (RFC 8032) over records. A signature covers the object's type, its repository, its epoch and its key besides
//! the record.

use backstay_core::{Error, ObjectKey, Result};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode, bytes::ByteVec};

use super::{Domain, ObjectType};
use crate::repository::ids::SignerId;

/// A record, who signed it, and the signature.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct Signed {
    /// The record as CBOR.
    #[n(0)]
    pub body: ByteVec,
    /// The public key of who signed.
    #[n(1)]
    pub signer: SignerId,
    #[n(2)]
    signature: ByteVec,
}

fn message(kind: ObjectType, domain: &Domain, key: &ObjectKey, body: &[u8]) -> Vec<u8> {
    let mut message = b"backstay 2026-11-20 v1 signature".to_vec();
    message.push(super::SUITE);
    message.push(kind as u8);
    message.extend_from_slice(&domain.repository);
    message.extend_from_slice(&domain.epoch.to_le_bytes());
    message.extend_from_slice(&(key.as_str().len() as u32).to_le_bytes());
    message.extend_from_slice(key.as_str().as_bytes());
    message.extend_from_slice(body);
    message
}

/// Signs a record.
#[must_use]
pub fn sign(signer: &SigningKey, kind: ObjectType, domain: &Domain, key: &ObjectKey, body: Vec<u8>) -> Signed {
    let signature = signer.sign(&message(kind, domain, key, &body));
    Signed {
        body: body.into(),
        signer: SignerId(signer.verifying_key().to_bytes()),
        signature: signature.to_bytes().to_vec().into(),
    }
}

impl Signed {
    /// Checks the signature (strictly: no weak keys). Whether the signer may sign this is for the caller to say.
    pub fn verify(&self, kind: ObjectType, domain: &Domain, key: &ObjectKey) -> Result<()> {
        let bad = || {
            Error::integrity("The signature of an object is wrong: it was forged or damaged")
                .with_context("object", key)
        };
        let signature = Signature::from_slice(&self.signature).map_err(|_| bad())?;
        let signer = VerifyingKey::from_bytes(self.signer.as_bytes()).map_err(|_| bad())?;
        signer.verify_strict(&message(kind, domain, key, &self.body), &signature).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_type_repository_epoch_key_and_body_alone() {
        let signer = SigningKey::from_bytes(&[3; 32]);
        let key = ObjectKey::new("points/00").unwrap();
        let domain = Domain { repository: [1; 16], epoch: 4 };
        let signed = sign(&signer, ObjectType::Point, &domain, &key, b"body".to_vec());
        assert!(signed.verify(ObjectType::Point, &domain, &key).is_ok());
        assert!(signed.verify(ObjectType::Chain, &domain, &key).is_err());
        assert!(signed.verify(ObjectType::Point, &Domain { repository: [2; 16], ..domain }, &key).is_err());
        assert!(signed.verify(ObjectType::Point, &Domain { epoch: 5, ..domain }, &key).is_err());
        assert!(signed.verify(ObjectType::Point, &domain, &ObjectKey::new("points/01").unwrap()).is_err());
        let forged = Signed { body: b"bodY".to_vec().into(), ..signed };
        assert!(forged.verify(ObjectType::Point, &domain, &key).is_err());
    }
}
