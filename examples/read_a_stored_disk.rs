//! Reads a disk straight from a repository, at any offset, without restoring it: the way to look into a backup.
//!
//! `cargo run --example read_a_stored_disk`

use std::sync::Arc;

use backstay::{
    Context, DiskId, DiskSource, MemoryBackend, Repository, Result, Workload, WorkloadId,
    repository::{
        Credential, DiskOptions, InitOptions, NewSlot, PointDetails, PointSelector, SecretKey, SessionOptions,
    },
};
use backstay_testkit::MemoryDisk;

#[tokio::main]
async fn main() -> Result<()> {
    // A repository with a disk of 64 MiB in it, most of which is a hole.
    let ctx = Context::default();
    let (backend, key) = (Arc::new(MemoryBackend::default()), SecretKey::generate(&ctx)?);
    Repository::init(backend.clone(), InitOptions::slots(vec![NewSlot::KeyFile(key.clone())]), &ctx).await?;
    let repository = Repository::open(backend, Credential::Key(key), &ctx).await?;
    let mut content = vec![0; 64 << 20];
    content[20 << 20..][..26].copy_from_slice(b"backstay holds what falls.");
    let (web, vda) = (WorkloadId::new("web-01")?, DiskId::new("vda")?);
    let workload = Workload { id: web.clone(), kind: "vm".into(), platform: Default::default() };
    let mut session = repository.begin(workload, SessionOptions::default(), &ctx).await?;
    session.write_disk(&vda, Arc::new(MemoryDisk::new(content)), &DiskOptions::default()).await?;
    session.commit(PointDetails::default()).await?;

    // The disk as it was: extents say where to look, reads fetch and unpack only the chunks they touch.
    let disk = repository.disk(&PointSelector::Latest(Some(web)), &vda, &ctx).await?;
    println!("{} bytes", disk.size());
    for extent in disk.extents(0..disk.size()).await? {
        println!("{:>10} to {:>10}: {:?}", extent.range.start, extent.range.end, extent.kind);
    }
    let text = disk.read(20 << 20..(20 << 20) + 26, Vec::new()).await?;
    println!("at 20 MiB: {}", String::from_utf8_lossy(&text));
    Ok(())
}
