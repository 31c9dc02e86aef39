//! A writer that lies in its index: about other writers' packs and about other writers' chunks.

use std::sync::Arc;

use backstay_core::{PutMode, RestorePoint, Result, StorageBackend};
use backstay_storage::{
    MemoryBackend, Repository,
    repository::{
        Capability, PruneOptions,
        crypto::{Domain, ObjectType, aead, envelope, sign},
        format::{
            self,
            session::{Outcome, SessionOutcome},
        },
        ids::PackId,
        index::{PackKind, PageCipher, Part, Section, SegmentBuilder},
        keys::Secret,
        pack::{Directory, TRAILER_BYTES, Trailer},
    },
};

use crate::{common::*, kit::*};

/// Seals a segment as a client of ours does.
struct Cipher {
    keys: [Secret; 2],
    domain: Domain,
}

const SALT: [u8; 16] = [3; 16];

impl PageCipher for Cipher {
    fn seal(&self, part: Part, plain: &[u8]) -> Result<Vec<u8>> {
        let (key, kind, number) = match part {
            Part::Page(number) => (&self.keys[0], ObjectType::IndexPage, number),
            Part::Footer => (&self.keys[1], ObjectType::IndexFooter, 0),
        };
        let aad = self.domain.aad(kind, &[&SALT[..], &number.to_le_bytes()].concat());
        let nonce = aead::synthetic_nonce(key, &[0; 32], &aad, plain);
        let mut sealed = [&nonce[..], plain].concat();
        aead::seal_tail(key, &nonce, &aad, &mut sealed, aead::NONCE_BYTES)?;
        Ok(sealed)
    }

    fn open(&self, _part: Part, _sealed: &[u8]) -> Result<Vec<u8>> {
        unreachable!("nothing is read back")
    }
}

type Packs = Vec<(PackId, u64, PackKind, Directory)>;

/// The packs that are there, and their directories by somebody's keys.
async fn packs(memory: &MemoryBackend, by: &Holder, owner: &Repository) -> Packs {
    let mut packs = Vec::new();
    for name in memory.keys() {
        let kind = match name.as_str().split('/').next() {
            Some("packs") => PackKind::Data,
            Some("meta") => PackKind::Meta,
            _ => continue,
        };
        let bytes = memory.get(&name).await.unwrap();
        let trailer = Trailer::decode(&bytes, bytes.len() as u64).unwrap();
        let end = bytes.len() - TRAILER_BYTES;
        let start = end - trailer.directory_bytes as usize;
        let domain = Domain { repository: owner.config().repository, epoch: 0 };
        let structure = &by.bundle.epochs[0].structure;
        let plain =
            envelope::open(structure, &domain, ObjectType::Directory, &trailer.salt, &bytes[start..end]).unwrap();
        let id = PackId::from_hex(name.name()).unwrap();
        packs.push((id, bytes.len() as u64, kind, Directory::decode(&plain, start as u64).unwrap()));
    }
    packs
}

/// Adds a segment of lies to the commit of one of its own sessions.
async fn lie(
    memory: &MemoryBackend,
    owner: &Repository,
    liar: &Holder,
    session: &RestorePoint,
    fill: impl FnOnce(&mut SegmentBuilder),
) {
    let repository = owner.config().repository;
    let domain = Domain { repository, epoch: 0 };
    let structure = liar.bundle.epochs[0].structure;
    let mut builder = SegmentBuilder::new();
    fill(&mut builder);
    let cipher = || Cipher {
        keys: [ObjectType::IndexPage, ObjectType::IndexFooter].map(|kind| envelope::key_for(&structure, kind)),
        domain: Domain { repository, epoch: 0 },
    };
    let made = builder.finish(0, &mut || Ok((SALT, Arc::new(cipher()) as Arc<dyn PageCipher>))).unwrap();
    let name = key(format!("sessions/{}/outcome", session.id));
    let object = memory.get(&name).await.unwrap();
    let plain =
        envelope::open(&structure, &domain, ObjectType::SessionOutcome, name.as_str().as_bytes(), &object).unwrap();
    let signed: sign::Signed = format::decode(&plain, "outcome").unwrap();
    let outcome: SessionOutcome = format::decode(&signed.body, "outcome").unwrap();
    let Outcome::Commit(mut commit) = outcome.outcome else { panic!("no commit") };
    for segment in made {
        memory.put(&key(format!("index/{}", segment.id)), segment.bytes, PutMode::Create).await.unwrap();
        commit.segments.push(segment.id);
    }
    forge_outcome(memory, owner, &liar.bundle, &session.id, Outcome::Commit(commit), outcome.generation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_lies_in_its_index_damages_nobody_and_nobody_builds_on_it_across_a_repack() {
    let (memory, owner) = memory_repository().await;
    let liar = holder(&memory, &owner, Capability::Writer).await;
    let honest = holder(&memory, &owner, Capability::Writer).await;
    let keeper = holder(&memory, &owner, Capability::Keeper).await;
    let writer = honest.open(&memory).await.unwrap();
    let disk = dense(6 * MIB, 1);
    let mut half = Sparse::new(6 * MIB);
    for at in 0..6 {
        half.write(at * MIB, &disk.read(at * MIB..at * MIB + MIB / 4));
    }
    let whole = back_up_disk(&writer, "web", &disk).await.unwrap();
    let part = back_up_disk(&writer, "part", &half).await.unwrap();
    let of_honest = packs(&memory, &liar, &owner).await;
    let own = back_up_disk(&liar.open(&memory).await.unwrap(), "mine", &dense(2 * MIB, 7)).await.unwrap();
    let of_liar: Packs = packs(&memory, &liar, &owner)
        .await
        .into_iter()
        .filter(|it| of_honest.iter().all(|its| its.0 != it.0))
        .collect();

    lie(&memory, &owner, &liar, &own, |segment| {
        let section = |kind| if kind == PackKind::Data { Section::Data } else { Section::Meta };
        for (kind, packs) in [(PackKind::Data, &of_honest), (PackKind::Meta, &of_honest)] {
            let (trap, size, _, _) = of_liar.iter().find(|it| it.2 == kind).unwrap();
            let trap = segment.add_pack(*trap, *size, kind);
            for (id, size, _, listed) in packs.iter().filter(|it| it.2 == kind) {
                // Other writers' packs, with frames where there are none or others.
                let pack = segment.add_pack(*id, *size, kind);
                for (offset, frame) in listed.with_offsets() {
                    segment.add(section(kind), frame.id, pack, offset ^ 1, frame.stored, frame.plain);
                    // Other writers' chunks, in a pack of its own where something else lies.
                    segment.add(section(kind), frame.id, trap, 0, frame.stored.min(60_000), frame.plain);
                }
            }
        }
    })
    .await;

    let restores = async |points: &[(&RestorePoint, &Sparse)], at: &str| {
        let owner = open(memory.clone()).await.unwrap();
        for (point, disk) in points {
            assert!(restore(&owner, point).await.unwrap() == **disk, "{at}: {}", point.workload.id);
        }
    };
    restores(&[(&whole, &disk), (&part, &half)], "after the lie").await;

    // Another writer stores the content itself, and the one whose chunks they are goes on using its own.
    let other = holder(&memory, &owner, Capability::Writer).await;
    let other = back_up_disk(&other.open(&memory).await.unwrap(), "other", &disk).await.unwrap();
    assert!(other.stored_bytes > 6 * MIB, "it built on what somebody else says: {}", other.stored_bytes);
    let again = back_up_disk(&honest.open(&memory).await.unwrap(), "again", &disk).await.unwrap();
    assert!(again.stored_bytes < MIB, "{} bytes are stored again", again.stored_bytes);
    restores(&[(&other, &disk), (&again, &disk)], "after more backups").await;

    // Most of the honest writer's packs is dead: a keeper copies the rest out of them.
    owner.forget(&[whole.id, again.id], &ctx()).await.unwrap();
    let mut repacked = 0;
    for _ in 0..3 {
        let keeper = keeper.open(&memory).await.unwrap();
        repacked += keeper.prune(&PruneOptions::default(), &ctx()).await.unwrap().repacked_packs;
        restores(&[(&part, &half), (&other, &disk)], "after a prune").await;
    }
    // The liar's point goes, and what its lies name stays.
    owner.forget(&[own.id], &ctx()).await.unwrap();
    for _ in 0..3 {
        let keeper = keeper.open(&memory).await.unwrap();
        repacked += keeper.prune(&PruneOptions::default(), &ctx()).await.unwrap().repacked_packs;
        restores(&[(&part, &half), (&other, &disk)], "after the liar's point went").await;
    }
    // Chunks that another writer's point names are kept in every copy as long as that point is there: it costs space and nothing else.
    owner.forget(&[other.id], &ctx()).await.unwrap();
    for _ in 0..2 {
        let keeper = keeper.open(&memory).await.unwrap();
        repacked += keeper.prune(&PruneOptions::default(), &ctx()).await.unwrap().repacked_packs;
        restores(&[(&part, &half)], "after a repack").await;
    }
    assert!(repacked > 0);
    let last = back_up_disk(&honest.open(&memory).await.unwrap(), "last", &half).await.unwrap();
    restores(&[(&last, &half)], "a backup after all that").await;
}
