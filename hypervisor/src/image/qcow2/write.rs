//! Writing a qcow2 image from front to back.

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use backstay_core::{Context, DiskSink, Error, Result, WriteOrder, disk::check_range};
use bytes::Bytes;

use super::{
    super::{partial::Target, source::ContextBox},
    layout::{CLUSTER, COPIED, L2_SPAN, Layout},
};

/// A new qcow2 image, version 3, with clusters of 64 KiB. What is not written is not allocated.
///
/// Takes rising offsets, and any length. Memory stays below 200 KiB and the L1 table (8 bytes for each 512 MiB of disk).
/// The file gets its name at `commit`. A disk that is no multiple of 512 bytes is made one with zeroes, as QEMU sees no part
/// of a sector.
#[derive(Debug)]
pub struct Qcow2Sink {
    target: Target,
    writer: Arc<Mutex<Writer>>,
    size: u64,
    ctx: ContextBox,
}

#[derive(Debug)]
struct Writer {
    file: Arc<File>,
    layout: Layout,
    l1: Vec<u64>,
    /// The L2 table that is being filled, and its place in the L1 table.
    l2: Vec<u64>,
    l2_index: usize,
    /// The cluster that is being filled, from its guest offset on; empty when none is.
    partial: Vec<u8>,
    partial_at: u64,
    /// Where the next call may begin.
    at: u64,
    next_cluster: u64,
    failed: bool,
}

impl Qcow2Sink {
    /// Prepares an image of a disk of `size` bytes at `path`. What is there is replaced only if `overwrite`.
    pub async fn create(path: impl Into<PathBuf>, size: u64, overwrite: bool, ctx: &Context) -> Result<Self> {
        let (path, inner) = (path.into(), ctx.clone());
        let layout = Layout::new(size)?;
        let target = ctx.blocking(move || Target::create(&path, overwrite, &inner)).await?;
        if let Target::Device(_) = target {
            return Err(Error::invalid_input("A qcow2 image is written to a file; restore to a block device as raw"));
        }
        let writer = Writer {
            file: Arc::clone(target.file()),
            layout,
            l1: vec![0; layout.l1_entries as usize],
            l2: Vec::new(),
            l2_index: 0,
            partial: Vec::new(),
            partial_at: 0,
            at: 0,
            next_cluster: layout.first_free(),
            failed: false,
        };
        Ok(Self { target, writer: Arc::new(Mutex::new(writer)), size, ctx: ContextBox(ctx.clone()) })
    }

    async fn with_writer(&self, job: impl FnOnce(&mut Writer) -> Result<()> + Send + 'static) -> Result<()> {
        let writer = Arc::clone(&self.writer);
        self.ctx
            .0
            .blocking(move || {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                if writer.failed {
                    return Err(Error::conflict("A write to the image failed, so it is not kept; restore it again"));
                }
                // Stays so if the job panics.
                writer.failed = true;
                let outcome = job(&mut writer);
                writer.failed = outcome.is_err();
                outcome
            })
            .await
    }

    /// Writes what is missing, makes it durable, and gives the target back without its name.
    pub(crate) async fn seal(self) -> Result<Target> {
        self.with_writer(Writer::finish).await?;
        let target = self.target;
        self.ctx
            .0
            .blocking(move || {
                target.sync()?;
                Ok(target)
            })
            .await
    }
}

impl Writer {
    fn put(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| Error::io(error, "Write qcow2 image"))
    }

    fn go_to(&mut self, range: &Range<u64>) -> Result<()> {
        if range.start < self.at {
            return Err(Error::invalid_input("A qcow2 image is written with rising offsets")
                .with_context("offset", range.start)
                .with_context("written_up_to", self.at));
        }
        self.at = range.end;
        Ok(())
    }

    fn write(&mut self, mut offset: u64, mut data: &[u8]) -> Result<()> {
        self.go_to(&(offset..offset + data.len() as u64))?;
        while !data.is_empty() {
            let start = offset & !(CLUSTER - 1);
            if !self.partial.is_empty() && self.partial_at != start {
                self.flush_partial()?;
            }
            let taken = if offset == start && data.len() as u64 >= CLUSTER {
                self.write_whole(offset, data)?
            } else {
                self.fill_partial(start, offset, data)
            };
            offset += taken as u64;
            data = &data[taken..];
        }
        Ok(())
    }

    /// Writes as many whole clusters as one L2 table takes, in one go.
    fn write_whole(&mut self, offset: u64, data: &[u8]) -> Result<usize> {
        let room = L2_SPAN - offset % L2_SPAN;
        let len = (data.len() as u64 & !(CLUSTER - 1)).min(room) as usize;
        let host = self.allocate(offset, len as u64 / CLUSTER)?;
        self.put(&data[..len], host)?;
        Ok(len)
    }

    fn fill_partial(&mut self, start: u64, offset: u64, data: &[u8]) -> usize {
        let into = (offset - start) as usize;
        let len = data.len().min(CLUSTER as usize - into);
        self.partial_at = start;
        self.partial.resize(into, 0);
        self.partial.extend_from_slice(&data[..len]);
        len
    }

    fn flush_partial(&mut self) -> Result<()> {
        if self.partial.is_empty() {
            return Ok(());
        }
        let mut cluster = std::mem::take(&mut self.partial);
        cluster.resize(CLUSTER as usize, 0);
        let host = self.allocate(self.partial_at, 1)?;
        self.put(&cluster, host)?;
        cluster.clear();
        self.partial = cluster;
        Ok(())
    }

    /// Gives `count` guest clusters from `offset` on, all of one L2 table, their places in the file: one after another.
    fn allocate(&mut self, offset: u64, count: u64) -> Result<u64> {
        let index = (offset / L2_SPAN) as usize;
        if index != self.l2_index {
            self.flush_l2()?;
            self.l2_index = index;
        }
        self.l2.resize((CLUSTER / 8) as usize, 0);
        let first = (offset % L2_SPAN / CLUSTER) as usize;
        let host = self.next_cluster * CLUSTER;
        for (number, entry) in self.l2[first..first + count as usize].iter_mut().enumerate() {
            *entry = (host + number as u64 * CLUSTER) | COPIED;
        }
        self.next_cluster += count;
        Ok(host)
    }

    fn flush_l2(&mut self) -> Result<()> {
        if self.l2.is_empty() {
            return Ok(());
        }
        let host = self.next_cluster * CLUSTER;
        self.put(&table_bytes(&self.l2), host)?;
        self.next_cluster += 1;
        self.l1[self.l2_index] = host | COPIED;
        self.l2.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.flush_partial()?;
        self.flush_l2()?;
        let first_block = self.next_cluster;
        let blocks = Layout::refcount_blocks(first_block);
        let used = first_block + blocks;
        let mut table = Vec::new();
        for number in 0..blocks {
            let host = (first_block + number) * CLUSTER;
            self.put(&Layout::refcount_block(used - number * (CLUSTER / 2)), host)?;
            table.push(host);
        }
        // Whole clusters, so that the file has no shorter last one and no hole where a table is.
        table.resize((self.layout.refcount_table_clusters * CLUSTER / 8) as usize, 0);
        self.put(&table_bytes(&table), CLUSTER)?;
        let mut l1 = table_bytes(&self.l1);
        l1.resize(l1.len().next_multiple_of(CLUSTER as usize), 0);
        self.put(&l1, self.layout.l1_offset())?;
        self.put(&self.layout.header(), 0)
    }
}

fn table_bytes(table: &[u64]) -> Vec<u8> {
    table.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

#[async_trait]
impl DiskSink for Qcow2Sink {
    fn size(&self) -> u64 {
        self.size
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Ascending
    }

    async fn write(&self, offset: u64, data: Bytes) -> Result<()> {
        check_range(&(offset..offset.saturating_add(data.len() as u64)), self.size)?;
        self.with_writer(move |writer| writer.write(offset, &data)).await
    }

    async fn zero(&self, range: Range<u64>) -> Result<()> {
        check_range(&range, self.size)?;
        self.with_writer(move |writer| writer.go_to(&range)).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let ctx = self.ctx.0.clone();
        let target = self.seal().await?;
        ctx.blocking(move || target.publish()).await
    }
}
