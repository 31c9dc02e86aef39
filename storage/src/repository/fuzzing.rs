//! Decoders that are private, for fuzzing, and what benchmarks need besides.

use std::sync::{Arc, OnceLock};

use backstay_core::{Context, ObjectKey, Result};
use bytes::Bytes;

use super::{
    compress,
    crypto::{ObjectType, envelope, frame::Codec, sign},
    format::{
        self,
        chain::{ChainRecord, FoldedState},
        checks::CheckRecord,
        hold::HoldRecord,
        lost::LostRecord,
        point::PointRecord,
        session,
    },
    keys::{KeyBundle, Keyring},
    objects::Objects,
};
use crate::backend::{MemoryBackend, Wanted};

/// The repository that [`open_record`] takes records to be of.
pub const REPOSITORY: [u8; 16] = [3; 16];
const KINDS: [ObjectType; 11] = [
    ObjectType::Chain,
    ObjectType::Point,
    ObjectType::Forgotten,
    ObjectType::Hold,
    ObjectType::Lost,
    ObjectType::CheckRecord,
    ObjectType::SessionOpen,
    ObjectType::SessionCheckpoint,
    ObjectType::SessionSeen,
    ObjectType::Folded,
    ObjectType::SessionOutcome,
];

pub use super::compress::compress;

/// Unpacks a payload into as many bytes as a map could say.
pub fn decompress(codec: Codec, payload: &[u8], len: u32) -> Result<Vec<u8>> {
    let mut plain = vec![0; len as usize];
    compress::decompress(codec, payload, &mut plain)?;
    Ok(plain)
}

/// Seals the bytes as whoever holds the keys could, once as a signed record and once as the body of one that is signed as it
/// should be, and opens both as every kind of record.
pub fn open_record(bytes: &[u8]) {
    static OBJECTS: OnceLock<Option<Objects>> = OnceLock::new();
    let made = OBJECTS.get_or_init(|| {
        let bundle = KeyBundle::generate(&Context::default()).ok()?;
        Some(Objects::new(Arc::new(MemoryBackend::default()), Arc::new(Keyring::new(REPOSITORY, bundle, 0))))
    });
    let (Some(objects), Ok(key)) = (made, ObjectKey::new("chain/0")) else { return };
    let open = |kind, signed: &[u8]| -> Result<()> {
        let keys = objects.keyring().current_epoch()?;
        let domain = objects.keyring().domain(keys.epoch);
        let name = key.as_str().as_bytes();
        let object = envelope::seal(&keys.structure, &domain, kind, name, signed, &Context::default())?;
        match kind {
            ObjectType::Chain => {
                objects.open_record::<ChainRecord>(&key, kind, &object)?;
            }
            ObjectType::Point => {
                objects.open_record::<PointRecord>(&key, kind, &object)?;
            }
            ObjectType::Forgotten => {
                objects.open_record::<session::Tombstone>(&key, kind, &object)?;
            }
            ObjectType::Hold => {
                objects.open_record::<HoldRecord>(&key, kind, &object)?;
            }
            ObjectType::Lost => {
                objects.open_record::<LostRecord>(&key, kind, &object)?;
            }
            ObjectType::CheckRecord => {
                objects.open_record::<CheckRecord>(&key, kind, &object)?;
            }
            ObjectType::SessionOpen => {
                objects.open_record::<session::SessionOpen>(&key, kind, &object)?;
            }
            ObjectType::SessionCheckpoint => {
                objects.open_record::<session::SessionCheckpoint>(&key, kind, &object)?;
            }
            ObjectType::SessionSeen => {
                objects.open_record::<session::SessionSeen>(&key, kind, &object)?;
            }
            ObjectType::Folded => {
                objects.open_record::<FoldedState>(&key, kind, &object)?;
            }
            _ => {
                objects.open_record::<session::SessionOutcome>(&key, kind, &object)?;
            }
        }
        Ok(())
    };
    for kind in KINDS {
        let _either = open(kind, bytes);
        let signed = || {
            let signer = objects.keyring().bundle().signing_key()?;
            format::encode(&sign::sign(&signer, kind, &objects.keyring().domain(0), &key, bytes.to_vec()))
        };
        let _either = signed().and_then(|signed| open(kind, &signed));
    }
}

fn cached(range: Option<std::ops::Range<u64>>) -> Result<Wanted> {
    Ok(Wanted { location: "memory:".into(), key: ObjectKey::new("packs/one")?, range })
}

/// A file of the read cache with this body, of a range that is as long or of the whole object.
pub fn cache_file(body: &[u8], of_a_range: bool) -> Result<Vec<u8>> {
    let (head, sum) = cached(of_a_range.then_some(0..body.len() as u64))?.seal(body);
    Ok([&head, body, &sum].concat())
}

/// The body in a file of the read cache, of so many bytes of an object or of all of it.
pub fn open_cache_file(file: &[u8], range: Option<u64>) -> Result<Option<Bytes>> {
    Ok(cached(range.map(|len| 0..len))?.decode(file.to_vec()))
}
