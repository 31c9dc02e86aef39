//! The simulated platform passes, and the suite must be able to fail.

use std::{ops::Range, panic::AssertUnwindSafe};

use async_trait::async_trait;
use backstay_core::{
    Attachment, ChangeBase, ChangeToken, ChangedBlocks, DiskSource, Error, Extent, HypervisorCapabilities, RangeSet,
    RestoreOptions, RestoreTarget, Result, StreamSource, WorkloadSpec,
};
use futures::FutureExt;

use super::*;
use crate::SimulatedHypervisor;

fn web() -> WorkloadId {
    WorkloadId::new("web").unwrap()
}

fn simulated(capabilities: Option<HypervisorCapabilities>) -> SimulatedHypervisor {
    let platform = match capabilities {
        Some(capabilities) => SimulatedHypervisor::with_capabilities(1, capabilities),
        None => SimulatedHypervisor::new(1),
    };
    let disk = |name, size| (DiskId::new(name).unwrap(), size);
    platform.add_guest(&web(), &[disk("vda", 1 << 20), disk("vdb", (1 << 20) + 300_512)]).unwrap();
    platform.set_stream(&web(), "dump.sql", vec![7; 250_000]).unwrap();
    let xml = Attachment { name: "domain.xml".into(), media_type: "application/xml".into(), bytes: "<domain/>".into() };
    platform.set_attachment(&web(), xml).unwrap();
    platform
}

async fn passes(platform: &SimulatedHypervisor, hypervisor: Arc<dyn Hypervisor>) -> bool {
    let write = async |disk: &DiskId, offset, data: Vec<u8>| platform.write(&web(), disk, offset, &data).unwrap();
    let ctx = Context::default();
    AssertUnwindSafe(conformance(hypervisor, &web(), write, &ctx)).catch_unwind().await.is_ok()
}

#[tokio::test]
async fn the_simulated_platform_passes_whatever_it_can_do() {
    for capabilities in [None, Some(HypervisorCapabilities::default())] {
        let platform = simulated(capabilities);
        assert!(passes(&platform, Arc::new(platform.clone())).await, "{capabilities:?}");
    }
}

#[tokio::test]
async fn a_seed_decides_a_guest_and_its_writes() {
    let (one, two) = (simulated(None), simulated(None));
    let disk = DiskId::new("vdb").unwrap();
    let before = one.content(&web(), &disk).unwrap();
    for platform in [&one, &two] {
        platform.churn(&web(), 20).unwrap();
    }
    assert!(one.content(&web(), &disk).unwrap() == two.content(&web(), &disk).unwrap());
    assert!(one.content(&web(), &disk).unwrap() != before);
    one.resize(&web(), &disk, 5000).unwrap();
    assert_eq!(one.content(&web(), &disk).unwrap().len(), 5000);
}

#[tokio::test]
async fn bytes_that_a_shrunk_disk_lost_count_as_changed_when_it_grows_again() {
    let platform = simulated(None);
    let (disk, ctx) = (DiskId::new("vda").unwrap(), Context::default());
    let first = capture(&platform, &web(), &ctx).await;
    let token = first.disk(&disk).await.unwrap().change_token().await.unwrap();
    finish(first, CaptureOutcome::Stored).await;
    platform.resize(&web(), &disk, 1000).unwrap();
    platform.resize(&web(), &disk, 2000).unwrap();
    let second = capture(&platform, &web(), &ctx).await;
    let base = ChangeBase { point: backstay_core::RestorePointId::from_bytes([1; 16]), size: 1 << 20, token };
    let changed = second.disk(&disk).await.unwrap().changed_since(&base).await.unwrap();
    let due: RangeSet = [1000..2000].into_iter().collect();
    assert_eq!(changed, ChangedBlocks::Exact(due));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    NotFrozen,
    NothingChanged,
    NeverKnows,
    EverythingIsInternal,
    IgnoresOptions,
    AbandonedAppears,
    OverwritesUnasked,
}

#[derive(Clone, Debug)]
struct Flawed(SimulatedHypervisor, Flaw);

#[async_trait]
impl Hypervisor for Flawed {
    fn name(&self) -> &str {
        "flawed:"
    }
    fn capabilities(&self) -> HypervisorCapabilities {
        self.0.capabilities()
    }
    async fn workloads(&self, ctx: &Context) -> Result<Vec<WorkloadSpec>> {
        self.0.workloads(ctx).await
    }
    async fn workload(&self, id: &WorkloadId, ctx: &Context) -> Result<WorkloadSpec> {
        let internal = |error| if self.1 == Flaw::EverythingIsInternal { Error::internal("flawed") } else { error };
        self.0.workload(id, ctx).await.map_err(internal)
    }
    async fn capture(&self, id: &WorkloadId, options: &CaptureOptions, ctx: &Context) -> Result<Box<dyn Capture>> {
        let default = CaptureOptions::default();
        let options = if self.1 == Flaw::IgnoresOptions { &default } else { options };
        Ok(Box::new(FlawedCapture(self.0.capture(id, options, ctx).await?, self.clone())))
    }
    async fn restore(&self, options: &RestoreOptions, ctx: &Context) -> Result<Box<dyn RestoreTarget>> {
        let overwrite = options.overwrite || self.1 == Flaw::OverwritesUnasked;
        let target = self.0.restore(&options.clone().overwrite(overwrite), ctx).await?;
        Ok(Box::new(FlawedTarget(target, self.1)))
    }
}

struct FlawedCapture(Box<dyn Capture>, Flawed);

#[async_trait]
impl Capture for FlawedCapture {
    fn spec(&self) -> &WorkloadSpec {
        self.0.spec()
    }
    fn consistency(&self) -> Consistency {
        self.0.consistency()
    }
    async fn disk(&self, id: &DiskId) -> Result<Arc<dyn DiskSource>> {
        let flawed = FlawedDisk(self.0.disk(id).await?, self.1.clone(), self.spec().workload.id.clone(), id.clone());
        Ok(Arc::new(flawed))
    }
    async fn streams(&mut self) -> Result<Vec<StreamSource>> {
        self.0.streams().await
    }
    async fn attachments(&self) -> Result<Vec<Attachment>> {
        self.0.attachments().await
    }
    async fn finish(self: Box<Self>, outcome: CaptureOutcome) -> Result<()> {
        self.0.finish(outcome).await
    }
}

struct FlawedDisk(Arc<dyn DiskSource>, Flawed, WorkloadId, DiskId);

#[async_trait]
impl DiskSource for FlawedDisk {
    fn size(&self) -> u64 {
        self.0.size()
    }
    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        self.0.extents(range).await
    }
    async fn read(&self, range: Range<u64>, buffer: Vec<u8>) -> Result<Vec<u8>> {
        let frozen = self.0.read(range.clone(), buffer).await?;
        if self.1.1 != Flaw::NotFrozen {
            return Ok(frozen);
        }
        Ok(self.1.0.content(&self.2, &self.3)?[range.start as usize..range.end as usize].to_vec())
    }
    async fn changed_since(&self, base: &ChangeBase) -> Result<ChangedBlocks> {
        let changed = self.0.changed_since(base).await?;
        Ok(match (self.1.1, changed) {
            (Flaw::NothingChanged, ChangedBlocks::Exact(_)) => ChangedBlocks::Exact(RangeSet::new()),
            (Flaw::NeverKnows, _) => ChangedBlocks::unknown("it never does"),
            (_, changed) => changed,
        })
    }
    async fn change_token(&self) -> Result<Option<ChangeToken>> {
        self.0.change_token().await
    }
}

struct FlawedTarget(Box<dyn RestoreTarget>, Flaw);

#[async_trait]
impl RestoreTarget for FlawedTarget {
    async fn disk(&self, id: &DiskId) -> Result<Box<dyn backstay_core::DiskSink>> {
        self.0.disk(id).await
    }
    async fn finish(self: Box<Self>, outcome: CaptureOutcome) -> Result<WorkloadId> {
        let outcome = if self.1 == Flaw::AbandonedAppears { CaptureOutcome::Stored } else { outcome };
        self.0.finish(outcome).await
    }
}

#[tokio::test]
async fn a_platform_with_any_flaw_fails() {
    use Flaw::{
        AbandonedAppears, EverythingIsInternal, IgnoresOptions, NeverKnows, NotFrozen, NothingChanged,
        OverwritesUnasked,
    };
    for flaw in [
        NotFrozen,
        NothingChanged,
        NeverKnows,
        EverythingIsInternal,
        IgnoresOptions,
        AbandonedAppears,
        OverwritesUnasked,
    ] {
        let platform = simulated(None);
        let flawed = Arc::new(Flawed(platform.clone(), flaw));
        assert!(!passes(&platform, flawed).await, "{flaw:?} was not found");
    }
}
