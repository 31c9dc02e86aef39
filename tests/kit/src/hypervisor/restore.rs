//! The way back.

use backstay_core::{
    Attachment, CaptureOutcome, Context, ErrorKind, Hypervisor, RestoreOptions, Result, WorkloadId, WorkloadSpec,
};
use bytes::Bytes;

use super::{Disks, capture, contents, finish};

struct Stored {
    spec: WorkloadSpec,
    attachments: Vec<Attachment>,
    disks: Disks,
}

pub(super) async fn workloads_come_back(hypervisor: &dyn Hypervisor, id: &WorkloadId, ctx: &Context) {
    let capture = capture(hypervisor, id, ctx).await;
    let attachments = capture.attachments().await.expect("attachments");
    let stored = Stored { spec: capture.spec().clone(), attachments, disks: contents(&*capture).await };
    finish(capture, CaptureOutcome::Abandoned).await;
    if !hypervisor.capabilities().restore {
        let error = hypervisor.restore(&RestoreOptions::new(stored.spec), ctx).await.err();
        assert_eq!(error.expect("it says that it cannot restore").kind(), ErrorKind::Unsupported);
        return;
    }
    let name = WorkloadId::new("conformance-restored").expect("a fine name");
    for outcome in [Some(CaptureOutcome::Abandoned), None] {
        restore(hypervisor, &stored, &name, false, outcome, ctx).await.expect("a restore that comes to nothing");
        let error = hypervisor.workload(&name, ctx).await.expect_err("a restore that was not finished left a workload");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    restore(hypervisor, &stored, &name, false, Some(CaptureOutcome::Stored), ctx).await.expect("restore");
    is_back(hypervisor, &stored, &name, ctx).await;

    let mut other = stored;
    other.disks.values_mut().for_each(|content| content[..512].fill(7));
    let refused = restore(hypervisor, &other, &name, false, Some(CaptureOutcome::Stored), ctx).await;
    assert_eq!(refused.expect_err("nothing is replaced unasked").kind(), ErrorKind::AlreadyExists);
    restore(hypervisor, &other, &name, true, Some(CaptureOutcome::Stored), ctx)
        .await
        .expect("restore over the old one");
    is_back(hypervisor, &other, &name, ctx).await;
}

async fn restore(
    hypervisor: &dyn Hypervisor,
    stored: &Stored,
    name: &WorkloadId,
    overwrite: bool,
    outcome: Option<CaptureOutcome>,
    ctx: &Context,
) -> Result<()> {
    let mut options = RestoreOptions::new(stored.spec.clone()).name(name.clone()).overwrite(overwrite);
    options.attachments.clone_from(&stored.attachments);
    let target = hypervisor.restore(&options, ctx).await?;
    for (disk, content) in &stored.disks {
        let sink = target.disk(disk).await?;
        assert_eq!(sink.size(), content.len() as u64, "the sink of {disk} has the size of the disk");
        for (part, at) in content.chunks(1 << 20).zip((0u64..).step_by(1 << 20)) {
            sink.write(at, Bytes::copy_from_slice(part)).await?;
        }
        sink.commit().await?;
    }
    if let Some(outcome) = outcome {
        let back = target.finish(outcome).await?;
        assert_eq!(&back, name, "it comes back under the name that was asked for");
    }
    Ok(())
}

async fn is_back(hypervisor: &dyn Hypervisor, stored: &Stored, name: &WorkloadId, ctx: &Context) {
    let spec = hypervisor.workload(name, ctx).await.expect("the restored workload is there");
    assert_eq!(&spec.workload.id, name);
    let capture = capture(hypervisor, name, ctx).await;
    assert!(contents(&*capture).await == stored.disks, "the restored disks hold other bytes");
    finish(capture, CaptureOutcome::Abandoned).await;
}
