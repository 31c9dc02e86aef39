//! Frozen views.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use async_trait::async_trait;
use backstay_core::{
    Attachment, Capture, CaptureOptions, CaptureOutcome, ChangeBase, ChangeToken, ChangedBlocks, Consistency, DiskId,
    DiskSource, Error, Extent, RangeSet, Result, StreamSource, WorkloadId, WorkloadSpec, disk::check_range,
};
use bytes::Bytes;
use futures::StreamExt;

use super::{SimulatedHypervisor, guest::LiveDisk};
use crate::memory_disk::extents_of;

pub(super) struct SimulatedCapture {
    platform: SimulatedHypervisor,
    spec: WorkloadSpec,
    consistency: Consistency,
    disks: BTreeMap<DiskId, Arc<FrozenDisk>>,
    streams: BTreeMap<String, Bytes>,
    attachments: Vec<Attachment>,
    outcome: CaptureOutcome,
}

impl SimulatedCapture {
    pub(super) fn new(
        platform: &SimulatedHypervisor,
        id: &WorkloadId,
        options: &CaptureOptions,
        consistency: Consistency,
    ) -> Result<Self> {
        let tracks = platform.0.capabilities.changed_blocks;
        platform.with_guest(id, |guest| {
            let mut spec = guest.spec(id);
            spec.disks.retain(|disk| !options.exclude.contains(&disk.id));
            let mut disks = BTreeMap::new();
            for info in &spec.disks {
                disks.insert(info.id.clone(), Arc::new(FrozenDisk::new(guest.disk_mut(&info.id)?, tracks)));
            }
            Ok(Self {
                platform: platform.clone(),
                spec,
                consistency,
                disks,
                streams: guest.streams.clone(),
                attachments: guest.attachments.clone(),
                outcome: CaptureOutcome::Abandoned,
            })
        })
    }
}

impl Drop for SimulatedCapture {
    fn drop(&mut self) {
        for (id, frozen) in &self.disks {
            // The guest or the disk may be gone, or another one may have come in its place: nothing to settle then.
            let _gone = self.platform.with_guest(&self.spec.workload.id, |guest| {
                let disk = guest.disk_mut(id)?;
                if disk.identity != frozen.identity {
                    return Ok(());
                }
                let since = disk.open.remove(&frozen.generation);
                if let (CaptureOutcome::Stored, Some(since)) = (self.outcome, since) {
                    disk.stored = Some((frozen.generation, since));
                }
                Ok(())
            });
        }
    }
}

#[async_trait]
impl Capture for SimulatedCapture {
    fn spec(&self) -> &WorkloadSpec {
        &self.spec
    }

    fn consistency(&self) -> Consistency {
        self.consistency
    }

    async fn disk(&self, id: &DiskId) -> Result<Arc<dyn DiskSource>> {
        match self.disks.get(id) {
            Some(disk) => Ok(Arc::clone(disk) as Arc<dyn DiskSource>),
            None => Err(Error::not_found("The capture has no such disk").with_context("disk", id)),
        }
    }

    async fn streams(&mut self) -> Result<Vec<StreamSource>> {
        let pieces = |bytes: Bytes| -> Vec<Result<Bytes>> {
            bytes.chunks(100_000).map(|piece| Ok(bytes.slice_ref(piece))).collect()
        };
        let stream = |(name, bytes)| StreamSource { name, bytes: futures::stream::iter(pieces(bytes)).boxed() };
        Ok(std::mem::take(&mut self.streams).into_iter().map(stream).collect())
    }

    async fn attachments(&self) -> Result<Vec<Attachment>> {
        Ok(self.attachments.clone())
    }

    async fn finish(mut self: Box<Self>, outcome: CaptureOutcome) -> Result<()> {
        self.outcome = outcome;
        Ok(())
    }
}

struct FrozenDisk {
    content: Arc<Vec<u8>>,
    identity: u64,
    generation: u64,
    changed: Option<(u64, RangeSet)>,
    tracks: bool,
}

impl FrozenDisk {
    fn new(disk: &mut LiveDisk, tracks: bool) -> Self {
        let generation = disk.freeze();
        let (content, changed) = (Arc::clone(disk.content()), disk.stored.clone());
        Self { content, identity: disk.identity, generation, changed, tracks }
    }

    fn token(&self, generation: u64) -> Result<ChangeToken> {
        ChangeToken::new(format!("simulated/{:016x}/{generation}", self.identity))
    }
}

#[async_trait]
impl DiskSource for FrozenDisk {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        check_range(&range, self.size())?;
        Ok(extents_of(&self.content, range))
    }

    async fn read(&self, range: Range<u64>, mut buffer: Vec<u8>) -> Result<Vec<u8>> {
        check_range(&range, self.size())?;
        buffer.clear();
        buffer.extend_from_slice(&self.content[range.start as usize..range.end as usize]);
        Ok(buffer)
    }

    async fn changed_since(&self, base: &ChangeBase) -> Result<ChangedBlocks> {
        match &self.changed {
            _ if !self.tracks => Ok(ChangedBlocks::unknown("this simulated platform does not track changes")),
            Some((stored, ranges)) if base.token == Some(self.token(*stored)?) => {
                Ok(ChangedBlocks::Exact(ranges.within(0..self.size()).collect()))
            }
            _ => Ok(ChangedBlocks::unknown("the token is not that of the last capture that was stored")),
        }
    }

    async fn change_token(&self) -> Result<Option<ChangeToken>> {
        self.tracks.then(|| self.token(self.generation)).transpose()
    }
}
