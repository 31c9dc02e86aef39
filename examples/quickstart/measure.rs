//! How much content a restore point added, before compression: counted in the directories of its packs.

use backstay::{
    Error, ObjectKey, Repository, RestorePoint, Result,
    repository::{
        Credential, SecretKey,
        crypto::{ObjectType, envelope},
        index::PackKind,
        keys::{Keyring, Slot},
        pack::{Directory, TRAILER_BYTES, Trailer},
    },
};
use futures::TryStreamExt;

/// Bytes of the chunks that the session of `point` stored. `docs/format.md` describes what is read here.
pub async fn new_content(repository: &Repository, key: &SecretKey, point: &RestorePoint) -> Result<u64> {
    let keyring = keyring(repository, key).await?;
    let backend = repository.backend();
    let packs: Vec<_> = backend.list(Some(&ObjectKey::new("packs")?)).try_collect().await?;
    let mut plain = 0;
    for pack in packs {
        let end = pack.size.saturating_sub(TRAILER_BYTES as u64);
        let trailer = Trailer::decode(&backend.get_range(&pack.key, end..pack.size).await?, pack.size)?;
        let start = end - u64::from(trailer.directory_bytes);
        let sealed = backend.get_range(&pack.key, start..end).await?;
        let epoch = envelope::epoch_of(ObjectType::Directory, &sealed)?;
        let structure = &keyring.epoch(epoch)?.structure;
        let opened = envelope::open(structure, &keyring.domain(epoch), ObjectType::Directory, &trailer.salt, &sealed)?;
        let directory = Directory::decode(&opened, start)?;
        debug_assert_eq!(trailer.kind, PackKind::Data);
        let own =
            |key: u16| directory.keys.get(usize::from(key)).is_some_and(|key| key.session == *point.id.as_bytes());
        plain +=
            directory.frames.iter().filter(|frame| own(frame.key)).map(|frame| u64::from(frame.plain)).sum::<u64>();
    }
    Ok(plain)
}

async fn keyring(repository: &Repository, key: &SecretKey) -> Result<Keyring> {
    let backend = repository.backend();
    let credential = Credential::Key(key.clone());
    let slots: Vec<_> = backend.list(Some(&ObjectKey::new("keys")?)).try_collect().await?;
    for meta in slots {
        let slot = Slot::from_object(&meta.key, &backend.get(&meta.key).await?)?;
        let Some(secret) = slot.kind.secret(&credential)? else { continue };
        if let Some(bundle) = slot.open(&secret)? {
            return Ok(Keyring::new(repository.config().repository, bundle, 0));
        }
    }
    Err(Error::internal("The key that the repository was opened with opens none of its slots"))
}
