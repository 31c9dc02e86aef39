//! A guest and its disks.

use std::{collections::BTreeMap, sync::Arc};

use backstay_core::{
    Attachment, DiskId, DiskInfo, Error, RandomSource, RangeSet, Result, Workload, WorkloadId, WorkloadSpec,
    disk::check_range,
};
use bytes::Bytes;

use crate::SeededRandom;

pub(super) struct Guest {
    pub(super) disks: BTreeMap<DiskId, LiveDisk>,
    pub(super) streams: BTreeMap<String, Bytes>,
    pub(super) attachments: Vec<Attachment>,
}

/// A disk that a guest writes to, with what a platform with dirty bitmaps would know of it.
pub(super) struct LiveDisk {
    /// Shared with captures, and copied by the first write after one.
    content: Arc<Vec<u8>>,
    /// No other disk has it, so that a token of a disk that was replaced fits nowhere.
    pub(super) identity: u64,
    /// The number of the last capture.
    pub(super) generation: u64,
    /// The last capture that was stored, and what was written since.
    pub(super) stored: Option<(u64, RangeSet)>,
    /// What was written since each capture that is not finished.
    pub(super) open: BTreeMap<u64, RangeSet>,
}

impl LiveDisk {
    pub(super) fn new(content: Vec<u8>, identity: u64) -> Self {
        Self { content: Arc::new(content), identity, generation: 0, stored: None, open: BTreeMap::new() }
    }

    pub(super) const fn content(&self) -> &Arc<Vec<u8>> {
        &self.content
    }

    pub(super) fn size(&self) -> u64 {
        self.content.len() as u64
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let range = offset..offset.saturating_add(data.len() as u64);
        check_range(&range, self.size())?;
        Arc::make_mut(&mut self.content)[range.start as usize..range.end as usize].copy_from_slice(data);
        let since_stored = self.stored.iter_mut().map(|(_, ranges)| ranges);
        since_stored.chain(self.open.values_mut()).for_each(|ranges| ranges.insert(range.clone()));
        Ok(())
    }

    pub(super) fn resize(&mut self, size: u64) {
        let old = self.size();
        Arc::make_mut(&mut self.content).resize(usize::try_from(size).expect("a disk in memory fits in memory"), 0);
        let grown = old..size;
        let trackers = self.stored.iter_mut().map(|(_, ranges)| ranges).chain(self.open.values_mut());
        for ranges in trackers {
            // Bytes that went and came back are changed even below the smaller size, and none may lie past the end.
            *ranges = ranges.within(0..size).collect();
            ranges.insert(grown.clone());
        }
    }

    /// Starts a capture and gives its number.
    pub(super) fn freeze(&mut self) -> u64 {
        self.generation += 1;
        self.open.insert(self.generation, RangeSet::new());
        self.generation
    }
}

impl Guest {
    pub(super) fn generate(disks: &[(DiskId, u64)], random: &SeededRandom) -> Self {
        let disk = |(id, size): &(DiskId, u64)| (id.clone(), LiveDisk::new(typical(*size, random), random.next()));
        Self { disks: disks.iter().map(disk).collect(), streams: BTreeMap::new(), attachments: Vec::new() }
    }

    pub(super) fn disk_mut(&mut self, id: &DiskId) -> Result<&mut LiveDisk> {
        let disk = self.disks.get_mut(id);
        disk.ok_or_else(|| Error::not_found("The simulated guest has no such disk").with_context("disk", id))
    }

    pub(super) fn churn(&mut self, writes: usize, random: &SeededRandom) -> Result<()> {
        for _ in 0..writes {
            let picked = random.below(self.disks.len() as u64) as usize;
            let Some(disk) = self.disks.values_mut().nth(picked) else { break };
            let range = random.range(disk.size(), 64 << 10);
            let mut data = vec![0; (range.end - range.start) as usize];
            random.fill(&mut data)?;
            disk.write(range.start, &data)?;
        }
        Ok(())
    }

    pub(super) fn spec(&self, id: &WorkloadId) -> WorkloadSpec {
        let info = |(id, disk): (&DiskId, &LiveDisk)| DiskInfo {
            id: id.clone(),
            size: disk.size(),
            platform: BTreeMap::from([("bus".into(), "simulated".into())]),
        };
        let platform = BTreeMap::from([("host".into(), "memory".into())]);
        let workload = Workload { id: id.clone(), kind: "vm".into(), platform };
        WorkloadSpec { workload, disks: self.disks.iter().map(info).collect() }
    }
}

/// Text, noise and holes in runs of up to 512 KiB, about a third each.
fn typical(size: u64, random: &SeededRandom) -> Vec<u8> {
    let size = usize::try_from(size).expect("a disk in memory fits in memory");
    let mut content = Vec::with_capacity(size);
    while content.len() < size {
        let run = (4096 * (1 + random.below(128)) as usize).min(size - content.len());
        let start = content.len();
        content.resize(start + run, 0);
        match random.below(3) {
            0 => {}
            1 => random.fill(&mut content[start..]).expect("a seeded source gives bytes"),
            _ => {
                let word = format!("line {:x} of a log that repeats itself\n", random.next());
                let text = word.bytes().cycle().take(run);
                content.splice(start.., text);
            }
        }
    }
    content
}
