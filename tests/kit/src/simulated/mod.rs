//! A platform in memory.

mod capture;
mod guest;
mod restore;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use backstay_core::{
    Attachment, Capture, CaptureOptions, Consistency, Context, DiskId, Error, Hypervisor, HypervisorCapabilities,
    Quiesce, RestoreOptions, RestoreTarget, Result, WorkloadId, WorkloadSpec,
};
use bytes::Bytes;

use self::{capture::SimulatedCapture, guest::Guest, restore::SimulatedTarget};
use crate::SeededRandom;

/// A [`Hypervisor`] whose guests are deterministic disks in memory: for tests, examples and demos.
///
/// It keeps track of changes as a platform with dirty bitmaps does: a token is good until the next capture is stored, one
/// of a capture that was not stored never is, and one of another disk, even of the same name, is not taken.
/// Cheap to clone; clones share the guests.
#[derive(Clone)]
pub struct SimulatedHypervisor(Arc<Inner>);

struct Inner {
    guests: Mutex<BTreeMap<WorkloadId, Guest>>,
    random: SeededRandom,
    capabilities: HypervisorCapabilities,
}

impl SimulatedHypervisor {
    /// A platform without guests that can do everything but instant restore.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut capabilities = HypervisorCapabilities::default();
        capabilities.changed_blocks = true;
        capabilities.quiesce = true;
        capabilities.live = true;
        capabilities.restore = true;
        Self::with_capabilities(seed, capabilities)
    }

    /// A platform that can do this.
    #[must_use]
    pub fn with_capabilities(seed: u64, capabilities: HypervisorCapabilities) -> Self {
        Self(Arc::new(Inner { guests: Mutex::default(), random: SeededRandom::new(seed), capabilities }))
    }

    /// Adds a guest with disks of these sizes in bytes, filled with a mix of text, noise and holes that the seed decides.
    ///
    /// [`backstay_core::ErrorKind::AlreadyExists`] when there is one of that name.
    pub fn add_guest(&self, id: &WorkloadId, disks: &[(DiskId, u64)]) -> Result<()> {
        let mut guests = self.guests();
        if guests.contains_key(id) {
            return Err(Error::already_exists("There is a simulated guest of this name").with_context("workload", id));
        }
        guests.insert(id.clone(), Guest::generate(disks, &self.0.random));
        Ok(())
    }

    /// Removes a guest; fine when it is not there.
    pub fn remove_guest(&self, id: &WorkloadId) {
        self.guests().remove(id);
    }

    /// The guest writes to its disk. Past the end is [`backstay_core::ErrorKind::InvalidInput`].
    pub fn write(&self, id: &WorkloadId, disk: &DiskId, offset: u64, data: &[u8]) -> Result<()> {
        self.with_guest(id, |guest| guest.disk_mut(disk)?.write(offset, data))
    }

    /// The guest writes so many times at random places of its disks, up to 64 KiB each.
    pub fn churn(&self, id: &WorkloadId, writes: usize) -> Result<()> {
        self.with_guest(id, |guest| guest.churn(writes, &self.0.random))
    }

    /// The disk grows or shrinks; new bytes are zero.
    pub fn resize(&self, id: &WorkloadId, disk: &DiskId, size: u64) -> Result<()> {
        self.with_guest(id, |guest| {
            guest.disk_mut(disk)?.resize(size);
            Ok(())
        })
    }

    /// What the disk holds now.
    pub fn content(&self, id: &WorkloadId, disk: &DiskId) -> Result<Vec<u8>> {
        self.with_guest(id, |guest| Ok(guest.disk_mut(disk)?.content().to_vec()))
    }

    /// From now on captures of the guest have this stream.
    pub fn set_stream(&self, id: &WorkloadId, name: &str, bytes: impl Into<Bytes>) -> Result<()> {
        self.with_guest(id, |guest| {
            guest.streams.insert(name.to_owned(), bytes.into());
            Ok(())
        })
    }

    /// From now on captures of the guest have this attachment.
    pub fn set_attachment(&self, id: &WorkloadId, attachment: Attachment) -> Result<()> {
        self.with_guest(id, |guest| {
            guest.attachments.retain(|old| old.name != attachment.name);
            guest.attachments.push(attachment);
            Ok(())
        })
    }

    fn guests(&self) -> MutexGuard<'_, BTreeMap<WorkloadId, Guest>> {
        self.0.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_guest<T>(&self, id: &WorkloadId, act: impl FnOnce(&mut Guest) -> Result<T>) -> Result<T> {
        let mut guests = self.guests();
        let guest = guests.get_mut(id);
        act(guest
            .ok_or_else(|| Error::not_found("There is no simulated guest of this name").with_context("workload", id))?)
    }
}

impl fmt::Debug for SimulatedHypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedHypervisor").field("guests", &self.guests().keys()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Hypervisor for SimulatedHypervisor {
    fn name(&self) -> &str {
        "simulated:"
    }

    fn capabilities(&self) -> HypervisorCapabilities {
        self.0.capabilities
    }

    async fn workloads(&self, _ctx: &Context) -> Result<Vec<WorkloadSpec>> {
        Ok(self.guests().iter().map(|(id, guest)| guest.spec(id)).collect())
    }

    async fn workload(&self, id: &WorkloadId, _ctx: &Context) -> Result<WorkloadSpec> {
        self.with_guest(id, |guest| Ok(guest.spec(id)))
    }

    async fn capture(&self, id: &WorkloadId, options: &CaptureOptions, _ctx: &Context) -> Result<Box<dyn Capture>> {
        let consistency = match (options.quiesce, self.0.capabilities.quiesce) {
            (Quiesce::Never, _) | (Quiesce::Try, false) => Consistency::Crash,
            (_, true) => Consistency::Filesystem,
            (Quiesce::Require, false) => {
                let what = "This simulated platform cannot freeze file systems; capture without, or allow it to try";
                return Err(Error::unsupported(what).with_context("workload", id));
            }
        };
        Ok(Box::new(SimulatedCapture::new(self, id, options, consistency)?))
    }

    async fn restore(&self, options: &RestoreOptions, _ctx: &Context) -> Result<Box<dyn RestoreTarget>> {
        if !self.0.capabilities.restore {
            return Err(Error::unsupported("This simulated platform cannot restore; restore to a file"));
        }
        Ok(Box::new(SimulatedTarget::new(self, options)?))
    }
}
