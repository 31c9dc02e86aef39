//! A cipher, an object that counts its reads, and segments of synthetic records.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use backstay_core::{Error, Result};
use bytes::Bytes;

use super::super::{
    Location, PackId, PackKind, PageCipher, Part, SealedSegment, Section, Segment, SegmentBuilder, SegmentBytes,
    SegmentId,
};

/// Keyed BLAKE3 as keystream and as tag, bound to salt and part. Not for anything but tests.
pub struct TestCipher([u8; 16]);

impl TestCipher {
    pub fn new(salt: [u8; 16]) -> Self {
        Self(salt)
    }

    fn hasher(&self, what: Part) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&[7; 32]);
        hasher.update(&self.0);
        match what {
            Part::Page(page) => hasher.update(b"page").update(&page.to_le_bytes()),
            Part::Footer => hasher.update(b"footer"),
        };
        hasher
    }

    fn turn(&self, what: Part, bytes: &mut [u8]) {
        let mut stream = vec![0; bytes.len()];
        self.hasher(what).finalize_xof().fill(&mut stream);
        bytes.iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
    }

    fn tag(&self, what: Part, sealed: &[u8]) -> [u8; 32] {
        *self.hasher(what).update(sealed).finalize().as_bytes()
    }
}

impl PageCipher for TestCipher {
    fn seal(&self, what: Part, plain: &[u8]) -> Result<Vec<u8>> {
        let mut out = plain.to_vec();
        self.turn(what, &mut out);
        let tag = self.tag(what, &out);
        out.extend(tag);
        Ok(out)
    }

    fn open(&self, what: Part, sealed: &[u8]) -> Result<Vec<u8>> {
        let (body, tag) = sealed.split_last_chunk().ok_or_else(|| Error::integrity("short"))?;
        if self.tag(what, body) != *tag {
            return Err(Error::integrity("tag"));
        }
        let mut out = body.to_vec();
        self.turn(what, &mut out);
        Ok(out)
    }
}

/// An object in memory that counts its reads.
pub struct Object {
    pub bytes: Bytes,
    pub reads: AtomicU64,
}

#[async_trait]
impl SegmentBytes for Object {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.reads.fetch_add(1, Relaxed);
        tokio::task::yield_now().await;
        if range.end > self.bytes.len() as u64 {
            return Err(Error::invalid_input("past the end"));
        }
        Ok(self.bytes.slice(range.start as usize..range.end as usize))
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Opens bytes as the segment of that id.
pub async fn open_bytes(id: SegmentId, bytes: Bytes) -> Result<(Segment, Arc<Object>)> {
    let object = Arc::new(Object { bytes, reads: AtomicU64::new(0) });
    let segment = Segment::open(id, Arc::clone(&object) as Arc<dyn SegmentBytes>, &|trailer| {
        Ok(Arc::new(TestCipher(trailer.salt)) as Arc<dyn PageCipher>)
    });
    Ok((segment.await?, object))
}

/// Opens what was built.
pub async fn open(sealed: &SealedSegment) -> (Arc<Segment>, Arc<Object>) {
    let (segment, object) = open_bytes(sealed.id, sealed.bytes.clone()).await.unwrap();
    (Arc::new(segment), object)
}

/// Seals with a salt that counts up.
pub fn finish(builder: SegmentBuilder) -> Result<Vec<SealedSegment>> {
    let mut salt = [0; 16];
    builder.finish(3, &mut || {
        salt[0] += 1;
        Ok((salt, Arc::new(TestCipher(salt)) as Arc<dyn PageCipher>))
    })
}

/// Seals what must be one segment.
pub fn finish_one(builder: SegmentBuilder) -> SealedSegment {
    let mut sealed = finish(builder).unwrap();
    assert_eq!(sealed.len(), 1);
    sealed.remove(0)
}

/// An id like those of chunks: uniform.
pub fn id(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

/// Chunks of a pack in a synthetic segment.
pub const CHUNKS: u64 = 1024;

/// Where chunk `number` lies in a synthetic segment.
pub fn location(number: u64) -> Location {
    let (pack, chunk) = (number / CHUNKS, number % CHUNKS);
    let mut pack_id = [0; 32];
    pack_id[..8].copy_from_slice(&pack.to_le_bytes());
    Location {
        pack: PackId(pack_id),
        pack_bytes: 33 << 20,
        offset: chunk as u32 * 32_000,
        stored: 31_000,
        plain: 65_536,
    }
}

/// The chunks `numbers`, 1024 to a pack.
pub fn synthetic(numbers: Range<u64>) -> SegmentBuilder {
    let mut builder = SegmentBuilder::new();
    let mut pack = (u64::MAX, 0);
    for number in numbers {
        let Location { pack: pack_id, pack_bytes, offset, stored, plain } = location(number);
        if pack.0 != number / CHUNKS {
            pack = (number / CHUNKS, builder.add_pack(pack_id, pack_bytes, PackKind::Data));
        }
        builder.add(Section::Data, id(number), pack.1, offset, stored, plain);
    }
    builder
}
