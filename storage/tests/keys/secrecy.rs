//! What keys do not open, tried with every key that is at hand on every object.

use backstay_core::{DiskSource, ErrorKind, ObjectKey, StorageBackend};
use backstay_storage::{
    MemoryBackend, Repository,
    repository::{
        Capability, CheckDepth,
        crypto::{self, Domain, ObjectType, aead, envelope, hpke},
        index::{PackKind, Trailer as IndexTrailer},
        keys::EpochShare,
        pack::{Directory, TRAILER_BYTES, Trailer},
    },
};

use crate::{common::*, kit::*};

const TYPES: [ObjectType; 13] = [
    ObjectType::Directory,
    ObjectType::IndexPage,
    ObjectType::IndexFooter,
    ObjectType::Point,
    ObjectType::SessionOpen,
    ObjectType::SessionCheckpoint,
    ObjectType::SessionOutcome,
    ObjectType::Chain,
    ObjectType::Forgotten,
    ObjectType::Folded,
    ObjectType::SessionSeen,
    ObjectType::Hold,
    ObjectType::Verified,
];

/// A pack's directory by the keys of somebody who has them.
async fn directory(memory: &MemoryBackend, name: &ObjectKey, by: &Holder, owner: &Repository) -> Option<Directory> {
    let bytes = memory.get(name).await.unwrap();
    let trailer = Trailer::decode(&bytes, bytes.len() as u64).unwrap();
    let end = bytes.len() - TRAILER_BYTES;
    let start = end - trailer.directory_bytes as usize;
    let sealed = &bytes[start..end];
    let epoch = envelope::epoch_of(ObjectType::Directory, sealed).unwrap();
    let domain = Domain { repository: owner.config().repository, epoch };
    let opened = |structure| envelope::open(structure, &domain, ObjectType::Directory, &trailer.salt, sealed).ok();
    let plain = by.bundle.epochs.iter().find_map(|keys| opened(&keys.structure))?;
    Some(Directory::decode(&plain, start as u64).unwrap())
}

/// How many frames of a pack open with any of these keys, or with the key of its session opened by any of them.
async fn frames_that_open(
    memory: &MemoryBackend,
    name: &ObjectKey,
    directory: &Directory,
    keys: &[[u8; 32]],
    kind: PackKind,
    owner: &Repository,
) -> (usize, usize) {
    let bytes = memory.get(name).await.unwrap();
    let (mut opened, mut tried) = (0, 0);
    for (offset, record) in directory.with_offsets().take(4) {
        let entry = &directory.keys[usize::from(record.key)];
        let domain = Domain { repository: owner.config().repository, epoch: entry.epoch };
        let mut all = keys.to_vec();
        if let Some(sealed) = &entry.sealed_key {
            let aad = domain.aad(ObjectType::SessionKey, &entry.session);
            let private = |key: &[u8; 32]| hpke::open(&zeroize::Zeroizing::new(*key), &aad, sealed).ok().flatten();
            all.extend(keys.iter().filter_map(private).filter_map(|key| <[u8; 32]>::try_from(key.as_slice()).ok()));
        }
        let of = match kind {
            PackKind::Data => ObjectType::Chunk,
            PackKind::Meta => ObjectType::Node,
        };
        for key in &all {
            let mut frame = bytes[offset as usize..(offset + record.stored) as usize].to_vec();
            opened += usize::from(crypto::frame::open(key, &domain, of, &record.id, &mut frame).is_ok());
            tried += 1;
        }
    }
    (opened, tried)
}

fn packs(memory: &MemoryBackend, folder: &str) -> Vec<ObjectKey> {
    memory.keys().into_iter().filter(|key| key.as_str().starts_with(folder)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_and_a_keeper_open_no_chunk_with_anything_that_they_have() {
    let (memory, owner) = memory_repository().await;
    let writer = holder(&memory, &owner, Capability::Writer).await;
    let keeper = holder(&memory, &owner, Capability::Keeper).await;
    let reader = holder(&memory, &owner, Capability::Reader).await;
    let disk = dense(3 * MIB, 1);
    let own = back_up_disk(&writer.open(&memory).await.unwrap(), "web", &disk).await.unwrap();
    let rotated = owner.reopen().await.is_err().then(|| open(memory.clone()));
    let owner = rotated.unwrap().await.unwrap().rotate(&ctx()).await.unwrap().repository;
    let later = back_up_disk(&writer.open(&memory).await.unwrap(), "web", &dense(3 * MIB, 2)).await.unwrap();

    for holder in [&writer, &keeper] {
        let repository = holder.open(&memory).await.unwrap();
        for point in [&own, &later] {
            match stored_disk(&repository, point).await {
                Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}"),
                Ok(stored) => assert_eq!(kind_of(stored.read(0..10, Vec::new()).await), ErrorKind::PermissionDenied),
            }
        }
        // A check reads every byte and understands none.
        assert_clean(&repository.check(CheckDepth::Read(100), &ctx()).await.unwrap(), "without content");
    }
    let (mut all, mut controls) = (0, 0);
    let [writer, keeper, reader] = [
        writer.with_shares(&memory, &owner).await,
        keeper.with_shares(&memory, &owner).await,
        reader.with_shares(&memory, &owner).await,
    ];
    assert!([&writer, &keeper, &reader].iter().all(|holder| holder.bundle.epochs.len() == 2));
    for name in packs(&memory, "packs/") {
        for holder in [&writer, &keeper] {
            let listed = directory(&memory, &name, holder, &owner).await.unwrap();
            let (opened, tried) =
                frames_that_open(&memory, &name, &listed, &holder.all_keys(), PackKind::Data, &owner).await;
            assert_eq!(opened, 0, "{name}");
            all += tried;
        }
        // The same with a reader's keys finds the way in: the trial is one.
        let listed = directory(&memory, &name, &reader, &owner).await.unwrap();
        controls += frames_that_open(&memory, &name, &listed, &reader.all_keys(), PackKind::Data, &owner).await.0;
    }
    assert!(all > 5000 && controls >= 8, "{all} trials, {controls} frames");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_opens_no_object_that_is_written_after_the_rotation() {
    let (memory, owner) = memory_repository().await;
    let removed = holder(&memory, &owner, Capability::Reader).await;
    let stays = holder(&memory, &owner, Capability::Reader).await;
    back_up_disk(&owner, "web", &dense(2 * MIB, 1)).await.unwrap();
    let owner = owner.remove_key(&removed.slot, &ctx()).await.unwrap().repository;
    let before = memory.keys();
    let point = back_up_disk(&owner, "web", &dense(2 * MIB, 2)).await.unwrap();
    owner.hold(&point.id, "why", &ctx()).await.unwrap();
    let gone = back_up_disk(&owner, "old", &dense(2 * MIB, 3)).await.unwrap();
    owner.forget(&[gone.id], &ctx()).await.unwrap();
    owner.prune(&Default::default(), &ctx()).await.unwrap();

    let stays = stays.with_shares(&memory, &owner).await;
    let new: Vec<_> = memory.keys().into_iter().filter(|key| !before.contains(key)).collect();
    assert!(new.len() > 8, "{new:?}");
    let repository = owner.config().repository;
    let keys = removed.all_keys();
    let (mut sealed, mut controls) = (0, 0);
    for name in &new {
        let bytes = memory.get(name).await.unwrap();
        if name.as_str().starts_with("packs/") || name.as_str().starts_with("meta/") {
            let kind = if name.as_str().starts_with("meta/") { PackKind::Meta } else { PackKind::Data };
            assert!(directory(&memory, name, &removed, &owner).await.is_none(), "{name}");
            // Even with the ids, which somebody else would have to tell.
            let listed = directory(&memory, name, &stays, &owner).await.unwrap();
            assert_eq!(frames_that_open(&memory, name, &listed, &keys, kind, &owner).await.0, 0, "{name}");
            controls += frames_that_open(&memory, name, &listed, &stays.all_keys(), kind, &owner).await.0;
        } else if name.as_str().starts_with("index/") {
            let trailer = IndexTrailer::decode(&bytes[bytes.len() - IndexTrailer::SIZE..]).unwrap();
            let footer = &bytes[trailer.footer.start as usize..trailer.footer.end as usize];
            let domain = Domain { repository, epoch: trailer.epoch };
            let aad = domain.aad(ObjectType::IndexFooter, &[&trailer.salt[..], &[0; 4]].concat());
            let opens = |keys: &[[u8; 32]]| {
                keys.iter().any(|key| {
                    let (nonce, rest) = footer.split_first_chunk::<{ aead::NONCE_BYTES }>().unwrap();
                    aead::open_in_place(key, nonce, &aad, &mut rest.to_vec()).unwrap().is_some()
                })
            };
            assert!(!opens(&keys), "{name}");
            controls += usize::from(opens(&stays.all_keys()));
        } else {
            for kind in TYPES {
                let Ok(epoch) = envelope::epoch_of(kind, &bytes) else { continue };
                let domain = Domain { repository, epoch };
                let opens = |holder: &Holder| {
                    holder
                        .all_keys()
                        .iter()
                        .any(|key| envelope::open(key, &domain, kind, name.as_str().as_bytes(), &bytes).is_ok())
                };
                assert!(!opens(&removed), "{name}");
                assert!(opens(&stays), "{name}");
                sealed += 1;
            }
        }
    }
    assert!(sealed >= 6 && controls >= 4, "{sealed} records, {controls} others: {new:?}");
    // Nor the shares of those who stay.
    for name in memory.keys().into_iter().filter(|name| name.as_str().starts_with("epochs/")) {
        let object = memory.get(&name).await.unwrap();
        let share = EpochShare::from_object(&name, &object, &owner.config().owner, repository).unwrap();
        assert!(share.open(&removed.private(), repository).is_err(), "{name}");
    }
}
