//! L1 and L2 tables: from guest offsets to places in files.

use std::sync::{Arc, Mutex, PoisonError};

use backstay_core::{Error, Result};

use super::{
    super::file::{ReadAt, read_exact},
    be::u64s,
    cache::{Table, TableCache},
    entry::{EntryFormat, Mapping, table_offset},
    header::{Compression, Header},
    metadata::Metadata,
};

/// A run of guest bytes that are mapped alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub len: u64,
    pub mapping: Mapping,
    /// How many units were looked at: what the answer cost.
    pub looked_at: u64,
}

/// The tables of one image.
#[derive(Debug)]
pub(crate) struct Tables {
    file: Arc<dyn ReadAt>,
    header: Header,
    format: EntryFormat,
    /// Offsets of the L2 tables; 0 for none.
    l1: Vec<u64>,
    metadata: Metadata,
    /// Length of the file that data clusters lie in.
    data_len: u64,
    cache: Arc<TableCache>,
    layer: u32,
    seen: Mutex<Seen>,
}

/// What all L2 tables that were loaded so far refer to, so that a small file cannot stand for an endless disk.
#[derive(Debug, Default)]
struct Seen {
    tables: Vec<u64>,
    data_clusters: u64,
    compressed_clusters: u64,
}

fn damaged(what: &str) -> Error {
    Error::integrity(format!("Damaged qcow2 image: {what}; see qemu-img check"))
}

impl Tables {
    /// Reads the L1 table and finds out where metadata lies. `data_len` is the length of the external data file, if any.
    pub(crate) fn open(
        file: Arc<dyn ReadAt>,
        header: Header,
        data_len: Option<u64>,
        cache: Arc<TableCache>,
        layer: u32,
    ) -> Result<Self> {
        // At most 32 MiB, as the header was checked.
        let len = header.l1_size as usize * 8;
        let bytes = if len == 0 { Vec::new() } else { read_exact(file.as_ref(), header.l1_offset, len, "L1 table")? };
        let mut l1 = Vec::with_capacity(header.l1_size as usize);
        for entry in u64s(&bytes) {
            l1.push(table_offset(entry, &header, "an L2 table")?);
        }
        let metadata = Metadata::collect(file.as_ref(), &header, &l1)?;
        let needed = usize::try_from(header.l1_needed()).unwrap_or(usize::MAX);
        l1.truncate(needed);
        let seen = Seen { tables: vec![0; l1.len().div_ceil(64)], ..Seen::default() };
        Ok(Self {
            format: EntryFormat::new(&header),
            data_len: data_len.unwrap_or(file.len()),
            file,
            header,
            l1,
            metadata,
            cache,
            layer,
            seen: Mutex::new(seen),
        })
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of memory that stay taken as long as the image is open.
    pub(crate) fn memory(&self) -> usize {
        self.l1.len() * 8 + self.metadata.memory()
    }

    /// The run that begins at guest offset `offset` and ends at `end` at the latest. `offset` lies before `end`, `end`
    /// inside the disk.
    pub(crate) fn run_at(&self, offset: u64, end: u64) -> Result<Run> {
        let shift = self.header.l1_shift();
        let index = (offset >> shift) as usize;
        if self.l1.get(index).is_none_or(|table| *table == 0) {
            return Ok(self.gap(index, offset, end));
        }
        let table = self.l2(index)?;
        let unit_bits = self.format.unit_bits();
        let base = (index as u64) << shift;
        let end = end.min(base + (1 << shift));
        let first = (offset - base) >> unit_bits;
        let start = self.format.unit(&table, first as usize);
        if let Mapping::Compressed { .. } = start {
            let cluster_end = (offset | (self.header.cluster_size() - 1)) + 1;
            return Ok(Run { len: cluster_end.min(end) - offset, mapping: start, looked_at: 1 });
        }
        let last = (end - 1 - base) >> unit_bits;
        let mut units = 1;
        while first + units <= last && self.continues(start, units, self.format.unit(&table, (first + units) as usize))
        {
            units += 1;
        }
        let stop = (base + ((first + units) << unit_bits)).min(end);
        let mapping = match start {
            Mapping::Data(host) => Mapping::Data(host + (offset & ((1 << unit_bits) - 1))),
            other => other,
        };
        Ok(Run { len: stop - offset, mapping, looked_at: units })
    }

    /// Whether the unit `units` after one that is mapped as `start` is part of the same run.
    fn continues(&self, start: Mapping, units: u64, next: Mapping) -> bool {
        match (start, next) {
            (Mapping::Data(from), Mapping::Data(host)) => from + (units << self.format.unit_bits()) == host,
            (Mapping::Unallocated, Mapping::Unallocated) | (Mapping::Zero, Mapping::Zero) => true,
            _ => false,
        }
    }

    /// A run without L2 tables; one look at each L1 entry.
    fn gap(&self, index: usize, offset: u64, end: u64) -> Run {
        let tail = self.l1.get(index..).unwrap_or_default();
        let empty = tail.iter().take_while(|table| **table == 0).count();
        let shift = self.header.l1_shift();
        let stop = if empty == tail.len() { end } else { ((index + empty) as u64) << shift };
        Run { len: stop.min(end) - offset, mapping: Mapping::Unallocated, looked_at: 1 + empty as u64 / 64 }
    }

    fn l2(&self, index: usize) -> Result<Table> {
        // The L1 table has at most 2^22 entries.
        let key = (self.layer, index as u32);
        if let Some(table) = self.cache.get(key) {
            return Ok(table);
        }
        let len = self.header.cluster_size() as usize;
        let table = Arc::new(u64s(&read_exact(self.file.as_ref(), self.l1[index], len, "L2 table")?));
        self.check(index, &table)?;
        self.cache.insert(key, Arc::clone(&table));
        Ok(table)
    }

    /// Checks every entry of a table, so that looking one up cannot fail.
    fn check(&self, index: usize, table: &[u64]) -> Result<()> {
        let (mut data, mut compressed) = (0, 0);
        for entry in table.chunks_exact(self.format.words()) {
            let mapping = self.format.check(entry[0], entry.get(1).copied().unwrap_or(0))?;
            let (host, len) = match mapping {
                Mapping::Data(host) => (host, self.header.cluster_size()),
                Mapping::Compressed { host, len } => (host, u64::from(len)),
                Mapping::Unallocated | Mapping::Zero => continue,
            };
            if host >= self.data_len {
                return Err(damaged("a cluster lies past the end of the file, which is truncated")
                    .with_context("offset", host)
                    .with_context("file_size", self.data_len));
            }
            if !self.header.has_data_file && self.metadata.overlaps(host, len) {
                return Err(
                    damaged("a data cluster lies on top of the image's own tables").with_context("offset", host)
                );
            }
            match mapping {
                Mapping::Compressed { .. } => compressed += 1,
                _ => data += 1,
            }
        }
        self.count(index, data, compressed)
    }

    /// No two clusters share their place in a sound image, so that there cannot be more of them than fit into the file.
    /// For compressed clusters, what fits follows from the best that the compression can do.
    fn count(&self, index: usize, data: u64, compressed: u64) -> Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let bit = 1 << (index % 64);
        if let Some(word) = seen.tables.get_mut(index / 64).filter(|word| **word & bit == 0) {
            *word |= bit;
            seen.data_clusters += data;
            seen.compressed_clusters += compressed;
        }
        let cluster = self.header.cluster_size();
        let least = match self.header.compression {
            // Deflate: at most 258 bytes for two bits.
            Compression::Zlib => cluster.div_ceil(1032),
            // Zstd: a frame header of six bytes, and four bytes for each block of at most 128 KiB.
            Compression::Zstd => 6 + 4 * cluster.div_ceil(128 << 10),
        };
        if seen.data_clusters > self.data_len.div_ceil(cluster) || seen.compressed_clusters > self.data_len / least + 1
        {
            return Err(damaged("it refers to more clusters than its file can hold"));
        }
        Ok(())
    }
}
