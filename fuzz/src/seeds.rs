//! Inputs that the targets accept, the same at every run, so that mutations of them reach what lies behind the first check.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
};

use backstay_core::{Context, ObjectKey, Result};
use backstay_storage::repository::{
    Compression, Credential, SecretKey,
    chunk::Entry,
    crypto::{self, FORMAT_VERSION, ObjectType, SUITE, frame::Codec, kdf::KdfParameters, sign},
    format::{self, chain, checks, config, hold, lost, point, session},
    fuzzing,
    ids::{ChunkId, NodeId, ObjectHash, PackId, SegmentId, SignerId},
    index::{PackKind, PageCipher, Part, Section, SegmentBuilder, Trailer},
    keys::{EpochKeys, EpochShare, KeyBundle, Pinned, Secret, Slot, SlotKind},
    map::{FANOUT, Inner, encode_inner, encode_leaf},
    pack,
};
use backstay_testkit::{SeededRandom, noise};
use secrecy::ExposeSecret;

use crate::{
    images,
    storage::{DOMAIN, KEY, PLAIN},
};

/// The same key every time.
pub(crate) fn secret_key() -> SecretKey {
    SecretKey::generate(&ctx()).unwrap()
}

fn ctx() -> Context {
    Context::default().with_random(Arc::new(SeededRandom::new(1)))
}

fn bundle() -> KeyBundle {
    KeyBundle::generate(&ctx()).unwrap()
}

fn owner() -> SignerId {
    SignerId(bundle().owner_signing_key().unwrap().verifying_key().to_bytes())
}

fn signed(kind: ObjectType, key: &str, body: Vec<u8>) -> Vec<u8> {
    let key = ObjectKey::new(key).unwrap();
    let signer = bundle().owner_signing_key().unwrap();
    format::encode(&sign::sign(&signer, kind, &DOMAIN, &key, body)).unwrap()
}

fn a_config() -> config::Config {
    config::Config {
        magic: config::MAGIC.to_owned(),
        version: FORMAT_VERSION,
        repository: DOMAIN.repository,
        suites: vec![SUITE],
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        collector_features: vec!["later".to_owned()],
        disk_chunker: "aligned-1".to_owned(),
        stream_chunker: config::STREAM_CHUNKER.to_owned(),
        pack_bytes: 32 << 20,
        owner: owner(),
        created: 1,
        create_if_absent: true,
        strong_listing: true,
        single_writer: false,
    }
}

pub(crate) fn config() -> Vec<Vec<u8>> {
    vec![signed(ObjectType::Config, "config", format::encode(&a_config()).unwrap())]
}

pub(crate) fn envelope() -> Vec<Vec<u8>> {
    vec![crypto::envelope::seal(&KEY, &DOMAIN, ObjectType::Chain, b"chain/0", PLAIN, &ctx()).unwrap()]
}

pub(crate) fn frame() -> Vec<Vec<u8>> {
    let mut frame = Vec::new();
    let content = crypto::frame::Content { kind: ObjectType::Chunk, id: &[5; 32], codec: Codec::Raw, payload: PLAIN };
    crypto::frame::seal(&KEY, &DOMAIN, content, &mut frame, &ctx()).unwrap();
    vec![frame]
}

/// Seals nothing and keeps what it was given.
#[derive(Default)]
struct Glass(Mutex<Vec<(Part, Vec<u8>)>>);

impl PageCipher for Glass {
    fn seal(&self, what: Part, plain: &[u8]) -> Result<Vec<u8>> {
        self.0.lock().unwrap().push((what, plain.to_vec()));
        Ok(plain.to_vec())
    }

    fn open(&self, _what: Part, sealed: &[u8]) -> Result<Vec<u8>> {
        Ok(sealed.to_vec())
    }
}

/// Segments with few and with many records, in parts.
struct Segments {
    plain: Vec<(Part, Vec<u8>)>,
    trailers: Vec<Vec<u8>>,
}

fn segments() -> Segments {
    let glass = Arc::new(Glass::default());
    let mut trailers = Vec::new();
    for count in [1, 5, 800_u32] {
        let mut builder = SegmentBuilder::new();
        for pack in 0..4 {
            builder.add_pack(PackId([pack; 32]), 1 << 20, PackKind::Data);
        }
        let ids = noise(u64::from(count), 32 * count as usize);
        for (number, id) in ids.as_chunks::<32>().0.iter().enumerate() {
            let section = if number % 4 == 0 { Section::Meta } else { Section::Data };
            builder.add(section, *id, number as u32 % 4, number as u32 * 100, 100, 200);
        }
        let made = builder.finish(0, &mut || Ok(([2; 16], Arc::clone(&glass) as Arc<dyn PageCipher>))).unwrap();
        trailers.extend(made.iter().map(|made| made.bytes[made.bytes.len() - Trailer::SIZE..].to_vec()));
    }
    let plain = std::mem::take(&mut *glass.0.lock().unwrap());
    Segments { plain, trailers }
}

pub(crate) fn index_trailer() -> Vec<Vec<u8>> {
    segments().trailers
}

pub(crate) fn index_footer() -> Vec<Vec<u8>> {
    segments().plain.into_iter().filter(|(part, _)| *part == Part::Footer).map(|(_, plain)| plain).collect()
}

pub(crate) fn index_page() -> Vec<Vec<u8>> {
    segments().plain.into_iter().filter(|(part, _)| *part != Part::Footer).map(|(_, plain)| plain).collect()
}

/// Seals to as many bytes more as the real cipher.
struct Padded;

impl PageCipher for Padded {
    fn seal(&self, _what: Part, plain: &[u8]) -> Result<Vec<u8>> {
        Ok([plain, &[7; 40]].concat())
    }

    fn open(&self, _what: Part, sealed: &[u8]) -> Result<Vec<u8>> {
        Ok(sealed[..sealed.len() - 40].to_vec())
    }
}

/// The id that the end of a segment hashes to, whatever it is: so that what lies behind that check is reached.
pub(crate) fn segment_id(object: &[u8]) -> SegmentId {
    let trailer = &object[object.len().saturating_sub(Trailer::SIZE)..];
    let offset = trailer.get(16..24).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(object.len());
    SegmentId(*blake3::hash(&object[from..]).as_bytes())
}

pub(crate) fn segment_without_key() -> Vec<Vec<u8>> {
    let segment = |nodes: u64, chunks: u64| {
        let mut builder = SegmentBuilder::new();
        let pack = builder.add_pack(PackId([1; 32]), 1 << 30, PackKind::Data);
        for (section, count) in [(Section::Meta, nodes), (Section::Data, chunks)] {
            let ids = noise(count, 32 * count as usize);
            ids.as_chunks::<32>().0.iter().for_each(|id| builder.add(section, *id, pack, 0, 100, 60));
        }
        builder
            .finish(0, &mut || Ok(([2; 16], Arc::new(Padded) as Arc<dyn PageCipher>)))
            .unwrap()
            .remove(0)
            .bytes
            .to_vec()
    };
    vec![segment(1, 1), segment(0, 5), segment(3, 400)]
}

pub(crate) fn check_entries() -> Vec<Vec<u8>> {
    let record = checks::CheckRecord::new(5, [([1; 8], 7), ([2; 8], 9)]);
    vec![format::encode(&record).unwrap()]
}

fn a_loss() -> lost::LostRecord {
    let part = |name: &str| lost::LostPart {
        name: name.to_owned(),
        ranges: vec![lost::LostRange { offset: 4096, bytes: 65_536 }],
        nodes: vec![NodeId([5; 32])],
        map: true,
    };
    lost::LostRecord {
        point: [1; 16],
        number: 1,
        time: 1,
        disks: vec![part("vda")],
        streams: vec![part("dump")],
        packs: vec![PackId([6; 32])],
    }
}

fn leaf() -> Vec<u8> {
    encode_leaf(&[
        Entry::Chunk { blocks: 16, id: ChunkId([1; 32]) },
        Entry::Hole { blocks: 4000 },
        Entry::Chunk { blocks: 80, id: ChunkId([2; 32]) },
    ])
}

fn inner(level: u8, children: &[(usize, u8)]) -> Vec<u8> {
    let mut inner = Inner { level, children: vec![None; FANOUT] };
    children.iter().for_each(|(place, id)| inner.children[*place] = Some(NodeId([*id; 32])));
    encode_inner(&inner)
}

pub(crate) fn map_node() -> Vec<Vec<u8>> {
    let mut stream_leaf = vec![3, 2, 0];
    stream_leaf.extend(noise(1, 72));
    let mut stream_inner = vec![4, 1, 2, 0];
    stream_inner.extend(noise(2, 80));
    vec![leaf(), inner(1, &[(0, 1), (511, 2)]), stream_leaf, stream_inner]
}

pub(crate) fn map_walk() -> Vec<Vec<u8>> {
    let row = |size: u64, nodes: &[Vec<u8>]| {
        let mut bytes = (size << 8).to_le_bytes().to_vec();
        for node in nodes {
            bytes.extend((node.len() as u16).to_le_bytes());
            bytes.extend(node);
        }
        bytes
    };
    vec![
        row(16 << 20, &[leaf()]),
        row(8 << 30, &[inner(1, &[(0, 1), (3, 1), (511, 2)]), leaf(), leaf()]),
        // A node that is its own child.
        row(1 << 42, &[inner(2, &[(0, 0), (1, 1)]), inner(1, &[(0, 2), (9, 2)]), leaf()]),
    ]
}

pub(crate) fn pack_directory() -> Vec<Vec<u8>> {
    let key = |sealed: bool| pack::KeyEntry {
        epoch: 0,
        session: [2; 16],
        origin: SignerId([3; 32]),
        sealed_key: sealed.then(|| vec![4; 80].into()),
    };
    let frame =
        |number: u8| pack::FrameRecord { id: [number; 32], plain: 65536, stored: 1000, key: u16::from(number % 2) };
    let made = pack::Directory { keys: vec![key(true), key(false)], frames: (0..9).map(frame).collect() };
    vec![made.encode().unwrap(), pack::Directory::default().encode().unwrap()]
}

pub(crate) fn pack_trailer() -> Vec<Vec<u8>> {
    [PackKind::Data, PackKind::Meta]
        .map(|kind| pack::Trailer { kind, directory_bytes: 77, salt: [5; 16] }.encode().to_vec())
        .to_vec()
}

fn entry() -> chain::RosterEntry {
    chain::RosterEntry {
        slot: [1; 16],
        capability: bundle().capability,
        recipient: [2; 32],
        signer: Some(owner()),
        until: None,
    }
}

fn chain_records() -> Vec<chain::ChainRecord> {
    let keys = chain::KeysRecord {
        epoch: 0,
        roster: vec![entry()],
        former: vec![chain::RosterEntry { signer: None, until: Some(3), ..entry() }],
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        collector_features: vec!["later".to_owned()],
    };
    let folded = chain::FoldedName { number: 1, id: [7; 16], hash: ObjectHash([8; 32]) };
    let keys_name = chain::KeysName { number: 0, hash: ObjectHash([9; 32]) };
    let record = |number, change, by_owner: bool| chain::ChainRecord {
        number,
        previous: ObjectHash([0; 32]),
        time: 1,
        change,
        folded: (number > 0).then_some(folded),
        keys: (!by_owner).then_some(keys_name),
    };
    vec![
        record(0, chain::Change::Keys(keys), true),
        record(1, chain::Change::Condemn, false),
        record(2, chain::Change::Verdict(1), false),
    ]
}

/// A state without anything, and one with an entry in every list.
fn folded_states() -> Vec<chain::FoldedState> {
    let full = chain::FoldedState {
        floor: 7,
        settled: vec![chain::SettledSession {
            session: [1; 16],
            point: ObjectHash([2; 32]),
            origin: owner(),
            summary: a_point(),
        }],
        forgotten: vec![chain::SessionName([1; 16])],
        base_segments: vec![chain::BaseSegment { id: SegmentId([3; 32]), origin: owner() }],
        dead_packs: vec![PackId([4; 32])],
        replaced_segments: vec![SegmentId([5; 32])],
        open: Some(chain::OpenGeneration {
            number: 8,
            packs: vec![PackId([6; 32])],
            segments: vec![SegmentId([7; 32])],
            committed: vec![chain::SessionName([8; 16])],
            forgotten: vec![chain::SessionName([9; 16])],
        }),
        gone: vec![ObjectHash([10; 32])],
        skipped_segments: vec![SegmentId([11; 32])],
        void: vec![chain::VoidSession { session: chain::SessionName([12; 16]), number: 9 }],
        unvouched: 4,
    };
    vec![chain::FoldedState::default(), full]
}

fn a_point() -> point::PointRecord {
    let stream = point::StreamEntry { name: "dump".into(), size: 9, root: Some(NodeId([1; 32])), chunker: "s".into() };
    point::PointRecord {
        session: [1; 16],
        generation: 0,
        workload: "web-01".into(),
        kind: "vm".into(),
        platform: BTreeMap::from([("host".into(), "h".into())]),
        sequence: 1,
        previous: ObjectHash([0; 32]),
        parent: Some(vec![2; 16].into()),
        time: 1,
        consistency: 0,
        labels: BTreeMap::new(),
        disks: vec![point::DiskEntry {
            id: "vda".into(),
            size: 1 << 30,
            root: Some(NodeId([3; 32])),
            chunker: "aligned-1".into(),
            token: Some(vec![1, 2, 3].into()),
            method: 1,
            reason: Some("why".into()),
            read_bytes: 1,
        }],
        streams: vec![stream.clone()],
        attachments: vec![point::AttachmentEntry { stream, media_type: "text/xml".into() }],
        read_bytes: 1,
        stored_bytes: 1,
        mark: [4; 16],
        provenance: Some(point::ProvenanceEntry { repository: [5; 16], point: [6; 16], hash: ObjectHash([7; 32]) }),
        rank: Some(2),
    }
}

fn outcomes() -> Vec<session::SessionOutcome> {
    let commit = session::Commit {
        point: Some(ObjectHash([1; 32])),
        packs: vec![PackId([2; 32])],
        meta_packs: vec![PackId([4; 32])],
        segments: vec![SegmentId([3; 32])],
        origin: None,
    };
    let repack = session::Commit { point: None, origin: Some(owner()), ..commit.clone() };
    [
        session::Outcome::Commit(commit),
        session::Outcome::Commit(repack),
        session::Outcome::Aborted,
        session::Outcome::Fenced,
    ]
    .map(|outcome| session::SessionOutcome { session: [1; 16], token: [2; 16], outcome, generation: 3 })
    .to_vec()
}

fn holds() -> Vec<hold::HoldRecord> {
    [hold::Standing::Held("why".into()), hold::Standing::Released, hold::Standing::Going]
        .map(|standing| hold::HoldRecord { session: [1; 16], number: 1, time: 1, standing })
        .to_vec()
}

fn opens() -> Vec<session::SessionOpen> {
    let (session, generation, time) = ([1; 16], 0, 1);
    let writes = session::SessionOpen {
        session,
        generation,
        time,
        purpose: session::Purpose::Write,
        workload: Some("web-01".into()),
        holds: Vec::new(),
    };
    let holds = vec![chain::SessionName([2; 16])];
    let reads = session::SessionOpen { purpose: session::Purpose::Read, workload: None, holds, ..writes.clone() };
    let repacks = session::SessionOpen { purpose: session::Purpose::Repack, holds: Vec::new(), ..reads.clone() };
    vec![writes, reads, repacks]
}

fn checkpoints() -> Vec<session::SessionCheckpoint> {
    [None, Some(ObjectHash([2; 32]))]
        .map(|point| session::SessionCheckpoint {
            session: [1; 16],
            packs: vec![PackId([1; 32])],
            meta_packs: Vec::new(),
            segments: vec![SegmentId([3; 32])],
            point,
        })
        .to_vec()
}

pub(crate) fn records() -> Vec<Vec<u8>> {
    let seen = session::SessionSeen { session: [1; 16], checkpoints: 3, time: 1 };
    let mut seeds = vec![
        format::encode(&a_config()).unwrap(),
        format::encode(&bundle()).unwrap(),
        format::encode(&a_slot().0).unwrap(),
        format::encode(&a_point()).unwrap(),
        format::encode(&seen).unwrap(),
        format::encode(&a_loss()).unwrap(),
    ];
    seeds.extend(check_entries());
    seeds.extend(opens().iter().map(|record| format::encode(record).unwrap()));
    seeds.extend(checkpoints().iter().map(|record| format::encode(record).unwrap()));
    seeds.extend(folded_states().iter().map(|record| format::encode(record).unwrap()));
    seeds.extend(holds().iter().map(|record| format::encode(record).unwrap()));
    seeds.extend(config());
    seeds.extend(chain_records().iter().map(|record| format::encode(record).unwrap()));
    seeds.extend(outcomes().iter().map(|outcome| format::encode(outcome).unwrap()));
    seeds
}

pub(crate) fn signed_record() -> Vec<Vec<u8>> {
    let chain = chain_records();
    let mut seeds: Vec<_> =
        chain.iter().map(|record| signed(ObjectType::Chain, "chain/0", format::encode(record).unwrap())).collect();
    seeds.push(signed(ObjectType::Point, "chain/0", format::encode(&a_point()).unwrap()));
    seeds.extend(records());
    seeds
}

fn a_slot() -> (Slot, Secret) {
    let key = secret_key();
    let secret = SlotKind::KeyFile.secret(&Credential::Key(key)).unwrap().unwrap();
    let pinned = Pinned { repository: DOMAIN.repository, config: ObjectHash([1; 32]), owner: owner() };
    let made = Slot::create(SlotKind::KeyFile, "key file", &secret, &bundle(), &pinned, &ctx());
    (made.unwrap(), secret)
}

/// The name, the owner and the private key of the share that [`epoch_share`] gives.
pub(crate) fn share_key() -> (ObjectKey, SignerId, crypto::hpke::PrivateKey) {
    (EpochShare::key(&[1; 16], 7).unwrap(), owner(), crypto::hpke::key_pair(&KEY).unwrap().0)
}

pub(crate) fn epoch_share() -> Vec<Vec<u8>> {
    let to = chain::RosterEntry { recipient: crypto::hpke::key_pair(&KEY).unwrap().1, ..entry() };
    let keys = EpochKeys::generate(7, &ctx()).unwrap();
    let share = EpochShare::create(&to, &keys, 3, DOMAIN.repository, &ctx()).unwrap();
    vec![share.to_object(&bundle(), DOMAIN.repository).unwrap(), format::encode(&share).unwrap()]
}

/// The name and the secret of the slot that [`slot`] gives.
pub(crate) fn slot_key() -> (ObjectKey, Secret) {
    static MADE: OnceLock<(ObjectKey, Secret)> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let (slot, secret) = a_slot();
        (Slot::key(&slot.id).unwrap(), secret)
    });
    made.clone()
}

pub(crate) fn slot() -> Vec<Vec<u8>> {
    let (mut slot, _) = a_slot();
    let own = slot.to_object(&bundle()).unwrap();
    slot.kind = SlotKind::Passphrase { kdf: KdfParameters::default(), salt: [1; 16] };
    vec![own, slot.to_object(&bundle()).unwrap(), format::encode(&slot).unwrap()]
}

pub(crate) fn known_hosts() -> Vec<Vec<u8>> {
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMW0q3ZfvYyS5kQ0R4vXK2yqNqI7T2B3a5Vb0mFhQxZk";
    let file = format!(
        "host\n# all\nhost,*.x,!y.x {KEY} me\n[host]:2222 {KEY}\n@cert-authority h?st {KEY}\n@revoked * {KEY}\n"
    );
    vec![file.into_bytes(), format!("host\n|1|AAAA|AAAA {KEY}\n").into_bytes()]
}

pub(crate) fn text() -> Vec<Vec<u8>> {
    let key = secret_key().to_text();
    let texts = [
        key.expose_secret(),
        "sftp://user@host:2222/~/x%20y",
        "sftp://[::1]/srv",
        "latest",
        "web@01@latest",
        "web@2026-11-20",
        "web@2026-11-20T10:00Z",
        "web@2026-11-20T10:00:00+01:00",
        "2026-11-20T10:00:00.123456789Z",
        "0123456789abcdef0123456789abcdef",
        "aligned-1",
        "fixed:65536",
        "sessions/0123456789abcdef0123456789abcdef/open",
        "qcow2",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(crate) fn unpack() -> Vec<Vec<u8>> {
    let text = b"all work and no play makes a dull backup. ".repeat(100);
    let of = |len: usize, payload: &[u8]| [&(len as u32).to_le_bytes()[..3], payload].concat();
    let packed = zstd::bulk::compress(&text, 1).unwrap();
    assert_eq!(Compression::default(), Compression::Zstd(1));
    vec![
        of(text.len(), &packed),
        of(text.len(), &text),
        of(1 << 20, &zstd::bulk::compress(&vec![0; 1 << 20], 1).unwrap()),
    ]
}

pub(crate) fn qcow2_open() -> Vec<Vec<u8>> {
    // A header, an L1 table, an L2 table and a cluster, 512 bytes each.
    let mut image = vec![0; 2048];
    image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    image[23] = 9;
    image[24..32].copy_from_slice(&32768_u64.to_be_bytes());
    image[36..40].copy_from_slice(&1_u32.to_be_bytes());
    image[40..48].copy_from_slice(&512_u64.to_be_bytes());
    image[96..100].copy_from_slice(&4_u32.to_be_bytes());
    image[100..104].copy_from_slice(&104_u32.to_be_bytes());
    image[512..520].copy_from_slice(&(1024 | 1_u64 << 63).to_be_bytes());
    image[1024..1032].copy_from_slice(&(1536 | 1_u64 << 63).to_be_bytes());
    image[1536..].fill(7);
    vec![image]
}

pub(crate) fn ranges_file() -> Vec<Vec<u8>> {
    let (point, size) = (images::PARENT, images::DISK);
    let of = |ranges: &str| format!(r#"{{"since": "{point}", "size": {size}, "ranges": {ranges}}}"#).into_bytes();
    vec![of("[[0, 4096], [65536, 131072]]"), of("[]"), of("[[1048575, 1], [0, 1048576]]")]
}

pub(crate) fn change_token() -> Vec<Vec<u8>> {
    vec![images::token()]
}

pub(crate) fn cache_file() -> Vec<Vec<u8>> {
    [true, false].map(|of_a_range| fuzzing::cache_file(crate::storage::PLAIN, of_a_range).unwrap()).into()
}
