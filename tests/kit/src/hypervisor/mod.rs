//! What every [`Hypervisor`] does.

mod restore;
#[cfg(test)]
mod tests;
mod tracking;

use std::{collections::BTreeMap, sync::Arc};

use backstay_core::{
    Capture, CaptureOptions, CaptureOutcome, Consistency, Context, DiskId, ErrorKind, Hypervisor, Quiesce, WorkloadId,
};
use futures::TryStreamExt;

use crate::disk::{read_all, source_conformance};

/// Checks a platform by one of its workloads, whose disks fit in memory a few times over and have at least 1 MiB.
/// `write` changes a disk of the workload while it runs. Panics where the adapter is wrong. Leaves the workload as it was but
/// for what was written, and, where the platform can restore, workloads named `conformance-…`.
pub async fn conformance(
    hypervisor: Arc<dyn Hypervisor>,
    workload: &WorkloadId,
    write: impl AsyncFn(&DiskId, u64, Vec<u8>),
    ctx: &Context,
) {
    let hypervisor = &*hypervisor;
    workloads_are_listed_in_a_stable_order(hypervisor, workload, ctx).await;
    what_is_not_there_is_not_found(hypervisor, workload, ctx).await;
    a_capture_is_frozen(hypervisor, workload, &write, ctx).await;
    a_capture_is_what_was_asked_for(hypervisor, workload, ctx).await;
    what_goes_with_the_disks_can_be_read(hypervisor, workload, ctx).await;
    if hypervisor.capabilities().changed_blocks {
        tracking::changes_are_never_missed(hypervisor, workload, &write, ctx).await;
    }
    restore::workloads_come_back(hypervisor, workload, ctx).await;
}

pub(super) type Disks = BTreeMap<DiskId, Vec<u8>>;

async fn capture(hypervisor: &dyn Hypervisor, id: &WorkloadId, ctx: &Context) -> Box<dyn Capture> {
    hypervisor
        .capture(id, &CaptureOptions::default(), ctx)
        .await
        .unwrap_or_else(|error| panic!("capture {id}: {error}"))
}

async fn contents(capture: &dyn Capture) -> Disks {
    let mut disks = Disks::new();
    for disk in &capture.spec().disks {
        let source = capture.disk(&disk.id).await.unwrap_or_else(|error| panic!("disk {}: {error}", disk.id));
        disks.insert(disk.id.clone(), read_all(&*source).await);
    }
    disks
}

async fn finish(capture: Box<dyn Capture>, outcome: CaptureOutcome) {
    capture.finish(outcome).await.unwrap_or_else(|error| panic!("finish {outcome:?}: {error}"));
}

fn nowhere() -> WorkloadId {
    WorkloadId::new("conformance-no-such-workload").expect("a fine name")
}

async fn workloads_are_listed_in_a_stable_order(hypervisor: &dyn Hypervisor, id: &WorkloadId, ctx: &Context) {
    let listed = hypervisor.workloads(ctx).await.expect("workloads");
    assert_eq!(listed, hypervisor.workloads(ctx).await.expect("workloads"), "the order of workloads is stable");
    let spec = hypervisor.workload(id, ctx).await.expect("the workload of the suite");
    assert!(listed.contains(&spec), "what is listed and what is asked for are the same");
    assert_eq!(&spec.workload.id, id);
    assert!(!spec.disks.is_empty(), "the suite needs a workload with a disk");
    assert!(!hypervisor.name().is_empty(), "a platform has a name");
}

async fn what_is_not_there_is_not_found(hypervisor: &dyn Hypervisor, id: &WorkloadId, ctx: &Context) {
    let error = hypervisor.workload(&nowhere(), ctx).await.expect_err("there is no such workload");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = hypervisor.capture(&nowhere(), &CaptureOptions::default(), ctx).await.err();
    assert_eq!(error.expect("there is no such workload").kind(), ErrorKind::NotFound);
    let capture = capture(hypervisor, id, ctx).await;
    let error = capture.disk(&DiskId::new("no-such-disk").expect("a fine name")).await.err();
    assert_eq!(error.expect("there is no such disk").kind(), ErrorKind::NotFound);
    finish(capture, CaptureOutcome::Abandoned).await;
}

async fn a_capture_is_frozen(
    hypervisor: &dyn Hypervisor,
    id: &WorkloadId,
    write: &impl AsyncFn(&DiskId, u64, Vec<u8>),
    ctx: &Context,
) {
    let capture = capture(hypervisor, id, ctx).await;
    let before = contents(&*capture).await;
    for (disk, content) in &before {
        write(disk, 4096, content[4096..12_288].iter().map(|byte| !byte).collect()).await;
    }
    for (disk, content) in &before {
        let source = capture.disk(disk).await.expect("a disk can be asked for again");
        let size = capture.spec().disks.iter().find(|info| info.id == *disk).map(|info| info.size);
        assert_eq!(size, Some(source.size()), "the spec and the disk {disk} tell the same size");
        assert!(read_all(&*source).await == *content, "a write of the guest shows in the frozen disk {disk}");
        source_conformance(source, content).await;
    }
    finish(capture, CaptureOutcome::Abandoned).await;
}

async fn a_capture_is_what_was_asked_for(hypervisor: &dyn Hypervisor, id: &WorkloadId, ctx: &Context) {
    let left_out = hypervisor.workload(id, ctx).await.expect("workload").disks[0].id.clone();
    let options = CaptureOptions::default().exclude(vec![left_out.clone()]).quiesce(Quiesce::Never);
    let capture = hypervisor.capture(id, &options, ctx).await.expect("a capture without one disk");
    assert_eq!(capture.consistency(), Consistency::Crash, "nothing is frozen where nothing may be");
    assert!(capture.spec().disks.iter().all(|disk| disk.id != left_out), "a disk that is left out is not in the spec");
    assert_eq!(capture.disk(&left_out).await.err().expect("it was left out").kind(), ErrorKind::NotFound);
    finish(capture, CaptureOutcome::Abandoned).await;
    let options = CaptureOptions::default().quiesce(Quiesce::Require);
    match hypervisor.capture(id, &options, ctx).await {
        Ok(capture) => {
            assert!(capture.consistency() > Consistency::Crash, "what had to be frozen was frozen");
            finish(capture, CaptureOutcome::Abandoned).await;
        }
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Unavailable),
            "what cannot be frozen is Unsupported or, for now, Unavailable: {error}"
        ),
    }
}

async fn what_goes_with_the_disks_can_be_read(hypervisor: &dyn Hypervisor, id: &WorkloadId, ctx: &Context) {
    let mut capture = capture(hypervisor, id, ctx).await;
    let attachments = capture.attachments().await.expect("attachments");
    assert!(attachments.iter().all(|attachment| attachment.bytes.len() <= 16 << 20), "an attachment is small");
    let mut names: Vec<_> = attachments.into_iter().map(|attachment| attachment.name).collect();
    for stream in capture.streams().await.expect("streams") {
        let pieces: Vec<_> =
            stream.bytes.try_collect().await.unwrap_or_else(|error| panic!("{}: {error}", stream.name));
        drop(pieces);
        names.push(stream.name);
    }
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "no two of the attachments and streams have one name");
    finish(capture, CaptureOutcome::Abandoned).await;
}
