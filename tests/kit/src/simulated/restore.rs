//! Guests that come back.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use backstay_core::{
    CaptureOutcome, DiskId, DiskSink, Error, RestoreOptions, RestoreTarget, Result, WorkloadId, WriteOrder,
};

use super::{
    SimulatedHypervisor,
    guest::{Guest, LiveDisk},
};
use crate::{MemorySink, MemorySinkResult};

pub(super) struct SimulatedTarget {
    platform: SimulatedHypervisor,
    options: RestoreOptions,
    disks: Mutex<BTreeMap<DiskId, MemorySinkResult>>,
}

impl SimulatedTarget {
    pub(super) fn new(platform: &SimulatedHypervisor, options: &RestoreOptions) -> Result<Self> {
        let target = Self { platform: platform.clone(), options: options.clone(), disks: Mutex::default() };
        target.check_room()?;
        Ok(target)
    }

    fn name(&self) -> WorkloadId {
        self.options.name.clone().unwrap_or_else(|| self.options.spec.workload.id.clone())
    }

    fn check_room(&self) -> Result<()> {
        if self.options.overwrite || !self.platform.guests().contains_key(&self.name()) {
            return Ok(());
        }
        Err(Error::already_exists("There is a guest of this name; restore under another one or allow to overwrite it")
            .with_context("workload", self.name()))
    }

    fn content(&self, id: &DiskId) -> Result<Vec<u8>> {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let content = disks.get(id).and_then(MemorySinkResult::content);
        let unfinished = || Error::invalid_input("A disk was not committed before the restore was finished");
        content.ok_or_else(|| unfinished().with_context("disk", id))
    }
}

#[async_trait]
impl RestoreTarget for SimulatedTarget {
    async fn disk(&self, id: &DiskId) -> Result<Box<dyn DiskSink>> {
        let info = self.options.spec.disks.iter().find(|disk| disk.id == *id);
        let info =
            info.ok_or_else(|| Error::not_found("The stored workload has no such disk").with_context("disk", id))?;
        let (sink, result) = MemorySink::new(info.size, WriteOrder::Any);
        let before = self.disks.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), result);
        match before {
            None => Ok(Box::new(sink)),
            Some(_) => Err(Error::invalid_input("A disk was asked for twice in one restore").with_context("disk", id)),
        }
    }

    async fn finish(self: Box<Self>, outcome: CaptureOutcome) -> Result<WorkloadId> {
        let name = self.name();
        if outcome == CaptureOutcome::Abandoned {
            return Ok(name);
        }
        let mut disks = BTreeMap::new();
        for info in &self.options.spec.disks {
            let identity = self.platform.0.random.next();
            disks.insert(info.id.clone(), LiveDisk::new(self.content(&info.id)?, identity));
        }
        self.check_room()?;
        let guest = Guest { disks, streams: BTreeMap::new(), attachments: self.options.attachments.clone() };
        self.platform.guests().insert(name.clone(), guest);
        Ok(name)
    }
}
