//! Everything that is read back from a store.

use std::sync::Arc;

use async_trait::async_trait;
use backstay_core::{
    Context, Error, ObjectKey, PutMode, RestorePointId, Result, StorageBackend, Timestamp, WorkloadId,
};
use backstay_storage::{
    MemoryBackend, Repository, SftpPlace,
    repository::{
        Credential, PointSelector, SecretKey,
        chunk::DiskChunker,
        crypto::{self, Domain, ObjectType, frame::Codec, sign::Signed},
        format::{self, chain, checks, config::Config, hold, lost, point, session},
        fuzzing,
        ids::NodeId,
        index,
        keys::{EpochShare, KeyBundle, RecipientKey, Slot},
        map::{MapCursor, Node, NodeSource, decode_leaf, decode_node, encode_inner, encode_leaf, segments_of},
        pack::{Directory, TRAILER_BYTES, Trailer},
    },
};
use futures::executor::block_on;
use secrecy::ExposeSecret;

use crate::seeds;

pub(crate) const KEY: [u8; 32] = [9; 32];
pub(crate) const DOMAIN: Domain = Domain { repository: fuzzing::REPOSITORY, epoch: 0 };
pub(crate) const PLAIN: &[u8] = b"what was sealed";

/// The configuration, the first thing that is read of a repository.
pub fn config(bytes: &[u8]) {
    let backend = Arc::new(MemoryBackend::default());
    let config = ObjectKey::new("config").unwrap();
    block_on(backend.put(&config, bytes.to_vec().into(), PutMode::Replace)).unwrap();
    let key = seeds::secret_key();
    // There is no slot, so that no input opens.
    assert!(block_on(Repository::open(backend, Credential::Key(key), &Context::default())).is_err());
}

/// Nothing opens but what was sealed.
pub fn envelope(bytes: &[u8]) {
    for kind in [ObjectType::Chain, ObjectType::Directory, ObjectType::Point] {
        let _either = crypto::envelope::epoch_of(kind, bytes);
        if let Ok(plain) = crypto::envelope::open(&KEY, &DOMAIN, kind, b"chain/0", bytes) {
            assert_eq!((kind, plain.as_slice()), (ObjectType::Chain, PLAIN));
        }
    }
}

/// Nothing opens but what was sealed.
pub fn frame(bytes: &[u8]) {
    let mut frame = bytes.to_vec();
    if let Ok((_, payload)) = crypto::frame::open(&KEY, &DOMAIN, ObjectType::Chunk, &[5; 32], &mut frame) {
        assert_eq!(payload, PLAIN);
    }
}

/// The last bytes of an index segment.
pub fn index_trailer(bytes: &[u8]) {
    index::fuzz_decode_trailer(bytes);
}

/// The footer of an index segment, opened.
pub fn index_footer(bytes: &[u8]) {
    index::fuzz_decode_footer(bytes);
}

/// A page of an index segment, opened.
pub fn index_page(bytes: &[u8]) {
    index::fuzz_decode_page(bytes);
}

/// A file of keys that SSH servers may show.
pub fn known_hosts(bytes: &[u8]) {
    backstay_storage::backend::sftp::fuzz_known_hosts(bytes);
}

/// A node of any map.
pub fn map_node(bytes: &[u8]) {
    match decode_node(bytes) {
        Ok(Node::Leaf(entries)) => {
            assert_eq!(encode_leaf(&entries), bytes);
            let blocks = entries.iter().map(|entry| entry.blocks()).sum();
            assert_eq!(decode_leaf(bytes, blocks).unwrap(), entries);
            assert!(decode_leaf(bytes, blocks + 1).is_err());
        }
        Ok(Node::Inner(inner)) => assert_eq!(encode_inner(&inner), bytes),
        Ok(Node::StreamLeaf(_) | Node::StreamInner(..)) | Err(_) => {}
    }
}

/// A disk map that a colluding writer made: nodes in a row, each after two bytes of length, that name each other by number.
pub fn map_walk(bytes: &[u8]) {
    let Some((size, mut rest)) = bytes.split_first_chunk::<8>() else { return };
    let size = u64::from_le_bytes(*size) >> 8;
    let mut nodes = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let (node, after) = after.split_at(after.len().min(usize::from(u16::from_le_bytes(*len))));
        nodes.push(node.to_vec());
        rest = after;
    }
    let root = (!nodes.is_empty()).then_some(NodeId([0; 32]));
    let mut cursor = MapCursor::new(Arc::new(Nodes(nodes)), size, root);
    let mut at = 0;
    for _ in 0..64 {
        let Ok(Some((segment, _))) = block_on(cursor.next_leaf(at)) else { break };
        assert!((at..segments_of(size)).contains(&segment), "segment {segment} after {at} of a disk of {size} bytes");
        let _either = block_on(cursor.leaf(segment));
        at = segment + 1;
    }
}

struct Nodes(Vec<Vec<u8>>);

#[async_trait]
impl NodeSource for Nodes {
    async fn node(&self, id: &NodeId) -> Result<bytes::Bytes> {
        let node = self.0.get(usize::from(id.0[0])).ok_or_else(|| Error::integrity("There is no such node"))?;
        Ok(node.clone().into())
    }
}

/// The directory of a pack, opened.
pub fn pack_directory(bytes: &[u8]) {
    const ROOM: u64 = 1 << 20;
    if let Ok(directory) = Directory::decode(bytes, ROOM) {
        assert_eq!(Directory::decode(&directory.encode().unwrap(), ROOM).unwrap(), directory);
        assert!(directory.with_offsets().all(|(at, frame)| u64::from(at) + u64::from(frame.stored) <= ROOM));
    }
}

/// The end of a pack.
pub fn pack_trailer(bytes: &[u8]) {
    if let Ok(trailer) = Trailer::decode(bytes, 1 << 20) {
        assert_eq!(trailer.encode(), bytes[bytes.len() - TRAILER_BYTES..]);
    }
}

macro_rules! records {
    ($($record:ty),* $(,)?) => {
        /// Every record in CBOR: what decodes is the same after it was encoded.
        pub fn records(bytes: &[u8]) {
            $(
                if let Ok(record) = format::decode::<$record>(bytes, "fuzz") {
                    let again = format::encode(&record).unwrap();
                    let twice = format::encode(&format::decode::<$record>(&again, "fuzz").unwrap()).unwrap();
                    assert_eq!(again, twice);
                }
            )*
        }
    };
}

records! {
    Config, KeyBundle, Signed, Slot, chain::ChainRecord, chain::FoldedState, point::PointRecord, session::SessionCheckpoint,
    session::SessionOpen, session::SessionOutcome, session::SessionSeen, session::Tombstone, hold::HoldRecord,
    lost::LostRecord, checks::CheckRecord,
}

/// A record of what was read, whose entries are of a fixed size.
pub fn check_entries(bytes: &[u8]) {
    if let Ok(record) = format::decode::<checks::CheckRecord>(bytes, "fuzz")
        && let Ok(entries) = record.entries()
    {
        let entries: Vec<_> = entries.collect();
        let again = checks::CheckRecord::new(record.time, entries.iter().copied());
        assert_eq!(again.entries().unwrap().collect::<Vec<_>>(), entries);
    }
}

/// A whole index segment as a scrub sees it, without any key.
pub fn segment_without_key(bytes: &[u8]) {
    let id = seeds::segment_id(bytes);
    let _either = index::verify_without_key(id, bytes);
}

/// A record that somebody with the keys sealed.
pub fn signed_record(bytes: &[u8]) {
    fuzzing::open_record(bytes);
}

/// A key slot, which is read before anything can be authenticated.
pub fn slot(bytes: &[u8]) {
    let (key, secret) = seeds::slot_key();
    if let Ok(slot) = Slot::from_object(&key, bytes) {
        let _either = slot.open(&secret);
    }
    // The cost of a guess is bounded before anything is derived.
    if let Ok(slot) = format::decode::<Slot>(bytes, "fuzz")
        && let backstay_storage::repository::keys::SlotKind::Passphrase { kdf, .. } = slot.kind
        && kdf.check().is_ok()
    {
        assert!(kdf.memory_kib <= 1 << 20 && kdf.passes <= 16);
    }
}

/// A slot's share of the keys of an epoch, which is read before the chain is.
pub fn epoch_share(bytes: &[u8]) {
    let (key, owner, private) = seeds::share_key();
    if let Ok(share) = EpochShare::from_object(&key, bytes, &owner, fuzzing::REPOSITORY) {
        let _either = share.open(&private, fuzzing::REPOSITORY);
    }
    // What the owner could have signed.
    if let Ok(share) = format::decode::<EpochShare>(bytes, "fuzz") {
        let _either = share.open(&private, fuzzing::REPOSITORY);
        let again = format::encode(&share).unwrap();
        assert_eq!(format::decode::<EpochShare>(&again, "fuzz").unwrap(), share);
    }
}

/// What people type and what names objects.
pub fn text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(key) = SecretKey::parse(&text) {
        let written = key.to_text();
        let again = SecretKey::parse(written.expose_secret()).unwrap();
        assert_eq!(again.to_text().expose_secret(), written.expose_secret());
    }
    if let Ok(recipient) = text.parse::<RecipientKey>() {
        assert_eq!(recipient.to_string().parse::<RecipientKey>().unwrap(), recipient);
    }
    if let Ok(PointSelector::Id(prefix)) = text.parse::<PointSelector>() {
        assert!(prefix.bytes().all(|digit| digit.is_ascii_hexdigit()));
    }
    if let Some(chunker) = DiskChunker::parse(&text) {
        assert_eq!(chunker.name(), text);
    }
    if let Ok(id) = text.parse::<RestorePointId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
    }
    if let Ok(key) = ObjectKey::new(text.as_ref()) {
        assert_eq!(key.as_str(), text);
    }
    if let Ok(place) = text.parse::<SftpPlace>() {
        assert_eq!(place.to_string().parse::<SftpPlace>().unwrap(), place);
    }
    let _either = WorkloadId::new(&text);
    let _either = text.parse::<backstay_hypervisor::ImageFormat>();
}

/// The payload of a frame, which unpacks to exactly what its map says or not at all.
pub fn unpack(bytes: &[u8]) {
    let Some((len, payload)) = bytes.split_first_chunk::<3>() else { return };
    let len = u32::from_le_bytes([len[0], len[1], len[2], 0]);
    for codec in [Codec::Raw, Codec::Zstd] {
        if let Ok(plain) = fuzzing::decompress(codec, payload, len) {
            assert_eq!(plain.len(), len as usize);
        }
    }
}

/// A file of the read cache is what was written or nothing.
pub fn cache_file(bytes: &[u8]) {
    for range in [None, Some(PLAIN.len() as u64)] {
        if let Some(body) = fuzzing::open_cache_file(bytes, range).unwrap() {
            assert!(range.is_none_or(|len| len == body.len() as u64));
            assert_eq!(fuzzing::cache_file(&body, range.is_some()).unwrap(), bytes);
        }
    }
}
