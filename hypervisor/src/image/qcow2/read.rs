//! Reading a qcow2 image: one layer of a chain.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use backstay_core::{ExtentKind, Result};

use super::{
    super::{
        file::{ReadAt, read_padded},
        layer::{Layer, Map, Scratch},
    },
    entry::Mapping,
    header::Header,
    tables::Tables,
};

/// A qcow2 image with what it builds on.
#[derive(Debug)]
pub(crate) struct Qcow2 {
    tables: Tables,
    /// Where data clusters are: the image itself or its external data file.
    data: Arc<dyn ReadAt>,
    backing: Option<Box<Layer>>,
    /// The compressed cluster that was read last, for readers that take it in pieces.
    last: Mutex<Option<(u64, Arc<Vec<u8>>)>>,
}

/// Adjacent clusters that are read in one go.
struct Pending {
    host: u64,
    range: Range<usize>,
}

impl Qcow2 {
    pub(crate) const fn new(tables: Tables, data: Arc<dyn ReadAt>, backing: Option<Box<Layer>>) -> Self {
        Self { tables, data, backing, last: Mutex::new(None) }
    }

    pub(crate) const fn header(&self) -> &Header {
        self.tables.header()
    }

    /// Fills `buffer` from `offset` on; all of it lies inside the disk.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let end = offset + buffer.len() as u64;
        let mut at = 0;
        let mut pending: Option<Pending> = None;
        while at < buffer.len() {
            let guest = offset + at as u64;
            let run = self.tables.run_at(guest, end)?;
            // A run never goes past `end`, so its length fits.
            let next = at + run.len as usize;
            let part = &mut buffer[at..next];
            match run.mapping {
                Mapping::Data(host) => {
                    let grown =
                        pending.as_mut().filter(|old| old.range.end == at && old.host + old.range.len() as u64 == host);
                    match grown {
                        Some(old) => old.range.end = next,
                        None => {
                            self.flush(pending.replace(Pending { host, range: at..next }), buffer)?;
                        }
                    }
                }
                Mapping::Zero => part.fill(0),
                Mapping::Compressed { host, len } => self.read_compressed(host, len, guest, part, scratch)?,
                Mapping::Unallocated => self.read_backing(guest, part, scratch)?,
            }
            at = next;
        }
        self.flush(pending, buffer)
    }

    fn flush(&self, pending: Option<Pending>, buffer: &mut [u8]) -> Result<()> {
        // A cluster that begins before the end of the file may end after it: the rest reads as zero, as in QEMU.
        pending.map_or(Ok(()), |run| read_padded(self.data.as_ref(), run.host, &mut buffer[run.range]))
    }

    fn read_backing(&self, guest: u64, part: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let Some(backing) = &self.backing else {
            part.fill(0);
            return Ok(());
        };
        let inside = usize::try_from(backing.size().saturating_sub(guest)).unwrap_or(usize::MAX).min(part.len());
        let (below, beyond) = part.split_at_mut(inside);
        beyond.fill(0);
        if below.is_empty() { Ok(()) } else { backing.read(guest, below, scratch) }
    }

    fn read_compressed(&self, host: u64, len: u32, guest: u64, part: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let size = self.header().cluster_size() as usize;
        let into = guest as usize & (size - 1);
        if part.len() == size {
            return self.decompress(host, len, part, scratch);
        }
        let kept = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cluster = match kept {
            Some((at, cluster)) if at == host => cluster,
            _ => {
                let mut cluster = vec![0; size];
                self.decompress(host, len, &mut cluster, scratch)?;
                let cluster = Arc::new(cluster);
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((host, Arc::clone(&cluster)));
                cluster
            }
        };
        part.copy_from_slice(&cluster[into..into + part.len()]);
        Ok(())
    }

    fn decompress(&self, host: u64, len: u32, cluster: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let input = scratch.input(len as usize);
        let got = self.data.read_at(host, input)?;
        scratch.decompress(self.header().compression, got, cluster)
    }

    /// Adds what lies in `range` to the map, until the map is full.
    pub(crate) fn map(&self, range: Range<u64>, map: &mut Map) -> Result<()> {
        let mut at = range.start;
        while at < range.end && map.wants_more() {
            let run = self.tables.run_at(at, range.end)?;
            map.looked_at(run.looked_at);
            let part = at..at + run.len;
            match run.mapping {
                Mapping::Zero => map.add(part.end, ExtentKind::Zero),
                Mapping::Compressed { .. } => map.add(part.end, ExtentKind::Data),
                Mapping::Data(host) => self.map_data(host, part.clone(), map)?,
                Mapping::Unallocated => self.map_backing(part.clone(), map)?,
            }
            at = part.end;
        }
        Ok(())
    }

    /// Clusters that were allocated but never written are holes in the file, as `preallocation=metadata` makes them.
    fn map_data(&self, host: u64, range: Range<u64>, map: &mut Map) -> Result<()> {
        let host_end = (host + (range.end - range.start)).min(self.data.len());
        if !self.data.knows_holes() || host_end <= host {
            map.add(range.end, ExtentKind::Data);
            return Ok(());
        }
        let mut at = host;
        while at < host_end && map.wants_more() {
            let (kind, end) = self.data.run_at(at..host_end)?;
            map.looked_at(1);
            map.add(range.start + (end - host), kind);
            at = end;
        }
        if at == host_end && map.wants_more() {
            map.add(range.end, ExtentKind::Zero);
        }
        Ok(())
    }

    fn map_backing(&self, range: Range<u64>, map: &mut Map) -> Result<()> {
        if let Some(backing) = &self.backing {
            let inside = range.start..range.end.min(backing.size());
            if inside.start < inside.end {
                backing.map(inside, map)?;
            }
        }
        if map.wants_more() {
            map.add(range.end, ExtentKind::Zero);
        }
        Ok(())
    }
}
