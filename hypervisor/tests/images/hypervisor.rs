//! Workloads that are disk images.

use std::sync::Arc;

use backstay_core::{
    Capture, CaptureOptions, CaptureOutcome, Context, DiskId, ErrorKind, Hypervisor, Quiesce, RestoreOptions,
    WorkloadId,
};
use backstay_hypervisor::{ImageDisk, ImageFormat, ImageWorkload, ImagesHypervisor};
use bytes::Bytes;

fn disk(name: &str) -> DiskId {
    DiskId::new(name).unwrap()
}

fn two_disks(dir: &std::path::Path) -> (ImagesHypervisor, WorkloadId) {
    let id = WorkloadId::new("web").unwrap();
    let disks = ["vda", "vdb"].map(|name| {
        std::fs::write(dir.join(name), vec![name.as_bytes()[2]; 100_000]).unwrap();
        ImageDisk::new(disk(name), dir.join(name), ImageFormat::Raw)
    });
    (ImagesHypervisor::new(vec![ImageWorkload::new(id.clone(), "vm", disks.to_vec())]), id)
}

async fn copy(capture: &dyn Capture, target: &dyn backstay_core::RestoreTarget, id: &DiskId) {
    let (source, sink) = (capture.disk(id).await.unwrap(), target.disk(id).await.unwrap());
    let bytes = source.read(0..source.size(), Vec::new()).await.unwrap();
    sink.write(0, Bytes::from(bytes)).await.unwrap();
    sink.commit().await.unwrap();
}

#[tokio::test]
async fn a_workload_of_two_disks_is_captured_and_comes_back_whole_or_not_at_all() {
    let (dir, back, ctx) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Context::default());
    let (hypervisor, id) = two_disks(dir.path());
    assert_eq!(hypervisor.workloads(&ctx).await.unwrap().len(), 1);
    let capture = hypervisor.capture(&id, &CaptureOptions::default(), &ctx).await.unwrap();
    let spec = capture.spec().clone();
    assert_eq!(spec.disks.iter().map(|disk| disk.size).collect::<Vec<_>>(), [100_000, 100_000]);
    let refused = hypervisor.restore(&RestoreOptions::new(spec.clone()), &ctx).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let files = || std::fs::read_dir(back.path()).unwrap().count();
    for (format, ending) in [(ImageFormat::Raw, "raw"), (ImageFormat::Qcow2, "qcow2")] {
        let hypervisor = ImagesHypervisor::default().restoring_to(back.path(), format);
        let before = files();
        // One disk alone is no workload.
        let target = hypervisor.restore(&RestoreOptions::new(spec.clone()), &ctx).await.unwrap();
        copy(capture.as_ref(), target.as_ref(), &disk("vda")).await;
        assert!(!back.path().join(format!("vda.{ending}")).exists());
        assert_eq!(target.finish(CaptureOutcome::Stored).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(files(), before);
        let target = hypervisor.restore(&RestoreOptions::new(spec.clone()), &ctx).await.unwrap();
        copy(capture.as_ref(), target.as_ref(), &disk("vda")).await;
        copy(capture.as_ref(), target.as_ref(), &disk("vdb")).await;
        assert_eq!(target.finish(CaptureOutcome::Stored).await.unwrap(), id);
        assert_eq!(files(), before + 2);
    }
    assert_eq!(std::fs::read(back.path().join("vdb.raw")).unwrap(), vec![b'b'; 100_000]);
    capture.finish(CaptureOutcome::Stored).await.unwrap();
}

#[tokio::test]
async fn excluded_disks_are_left_out_and_freezing_cannot_be_required() {
    let (dir, ctx) = (tempfile::tempdir().unwrap(), Context::default());
    let (hypervisor, id) = two_disks(dir.path());
    let hypervisor: Arc<dyn Hypervisor> = Arc::new(hypervisor);
    let options = CaptureOptions::default().exclude(vec![disk("vda")]);
    let capture = hypervisor.capture(&id, &options, &ctx).await.unwrap();
    assert_eq!(capture.spec().disks.len(), 1);
    assert_eq!(capture.disk(&disk("vda")).await.err().unwrap().kind(), ErrorKind::NotFound);
    let options = CaptureOptions::default().quiesce(Quiesce::Require);
    assert_eq!(hypervisor.capture(&id, &options, &ctx).await.err().unwrap().kind(), ErrorKind::Unsupported);
    let unknown = WorkloadId::new("nobody").unwrap();
    assert_eq!(hypervisor.workload(&unknown, &ctx).await.unwrap_err().kind(), ErrorKind::NotFound);
}
