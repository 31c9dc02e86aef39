//! What our sinks write, QEMU finds clean and the same as the disk.

use std::path::Path;

use backstay_core::{Context, DiskSink, ErrorKind, WriteOrder};
use backstay_hypervisor::{ImageFormat, Qcow2Sink, RawSink};
use bytes::Bytes;

use crate::qemu::{self, Dice};

async fn sink(
    path: &Path,
    format: ImageFormat,
    size: u64,
    overwrite: bool,
) -> backstay_core::Result<Box<dyn DiskSink>> {
    let ctx = Context::default();
    Ok(match format {
        ImageFormat::Qcow2 => Box::new(Qcow2Sink::create(path, size, overwrite, &ctx).await?),
        _ => Box::new(RawSink::create(path, size, overwrite, &ctx).await?),
    })
}

/// Writes pieces of any length with holes and zeroes between them; gives what the disk must then be.
async fn fill(sink: &dyn DiskSink, dice: &mut Dice) -> Vec<u8> {
    let size = sink.size();
    let mut disk = vec![0; size as usize];
    let mut at = 0;
    while at < size {
        let len = [1, 511, 512, 65536, 200_000, 1 << 20][dice.below(6) as usize].min(size - at);
        let range = at as usize..(at + len) as usize;
        match dice.below(4) {
            0 => {}
            1 => sink.zero(at..at + len).await.unwrap(),
            _ => {
                disk[range.clone()].fill_with(|| dice.below(256) as u8);
                sink.write(at, Bytes::copy_from_slice(&disk[range])).await.unwrap();
            }
        }
        at += len;
    }
    disk
}

#[tokio::test]
async fn written_images_are_clean_and_identical() {
    if !qemu::available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (format, name) in [(ImageFormat::Raw, "disk.raw"), (ImageFormat::Qcow2, "disk.qcow2")] {
        for size in [0, 512, 65536, 65537, 1_000_000, 9 << 20, (9 << 20) + 1024] {
            let path = dir.path().join(name);
            let mut dice = Dice(size + 7);
            let sink = sink(&path, format, size, true).await.unwrap();
            let mut disk = fill(sink.as_ref(), &mut dice).await;
            sink.commit().await.unwrap();
            if format == ImageFormat::Qcow2 {
                // QEMU counts whole sectors, and so does what is written for it.
                disk.resize(disk.len().next_multiple_of(512), 0);
            }
            let source = qemu::open(dir.path(), name, format).await.unwrap();
            assert!(qemu::read_all(&source, 1 << 20).await.unwrap() == disk, "{name} {size}");
            if format == ImageFormat::Raw {
                assert!(std::fs::read(&path).unwrap() == disk);
                continue;
            }
            let check = qemu::run(dir.path(), "qemu-img check disk.qcow2");
            assert!(check.contains("No errors were found"), "{check}");
            assert!(qemu::converted(dir.path(), name, "qcow2") == disk, "{size}");
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_sparse_huge_image_is_written_in_no_time_and_clean() {
    if !qemu::available() {
        return;
    }
    let (dir, size) = (tempfile::tempdir().unwrap(), 4u64 << 40);
    let ctx = Context::default();
    let sink = Box::new(Qcow2Sink::create(dir.path().join("huge.qcow2"), size, false, &ctx).await.unwrap());
    assert_eq!(sink.order(), WriteOrder::Ascending);
    for at in [0, 512 << 20, (1 << 40) + 12345, size - 65536] {
        sink.write(at, Bytes::from(vec![7; 65536])).await.unwrap();
    }
    sink.commit().await.unwrap();
    assert!(qemu::run(dir.path(), "qemu-img check huge.qcow2").contains("No errors were found"));
    let source = qemu::open(dir.path(), "huge.qcow2", ImageFormat::Qcow2).await.unwrap();
    let data: u64 = extents(&source).await;
    assert_eq!(data, 5 * 65536);
}

async fn extents(source: &dyn backstay_core::DiskSource) -> u64 {
    let (mut at, mut data) = (0, 0);
    while at < source.size() {
        for extent in source.extents(at..source.size()).await.unwrap() {
            at = extent.range.end;
            if extent.kind == backstay_core::ExtentKind::Data {
                data += extent.range.end - extent.range.start;
            }
        }
    }
    data
}

#[tokio::test]
async fn holes_stay_holes_in_raw_files_and_zeroing_punches_them() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let (path, ctx) = (dir.path().join("disk"), Context::default());
    let sink = Box::new(RawSink::create(&path, 1 << 30, false, &ctx).await.unwrap());
    sink.write(1 << 20, Bytes::from(vec![1; 8 << 20])).await.unwrap();
    sink.zero(2 << 20..8 << 20).await.unwrap();
    sink.commit().await.unwrap();
    let meta = path.metadata().unwrap();
    assert_eq!(meta.len(), 1 << 30);
    assert!(meta.blocks() * 512 <= 3 << 20, "{} bytes are allocated", meta.blocks() * 512);
}

#[tokio::test]
async fn an_existing_file_is_replaced_only_when_allowed_and_a_dropped_sink_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
        std::fs::write(&path, b"precious").unwrap();
        let refused = sink(&path, format, 65536, false).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        let dropped = sink(&path, format, 65536, true).await.unwrap();
        dropped.write(0, Bytes::from_static(b"new")).await.unwrap();
        drop(dropped);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // Someone else is faster.
        std::fs::remove_file(&path).unwrap();
        let ctx = Context::default();
        let slow = Box::new(RawSink::create(&path, 512, false, &ctx).await.unwrap());
        std::fs::write(&path, b"faster").unwrap();
        assert_eq!(slow.commit().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"faster");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn a_full_disk_is_unavailable() {
    // Every write to this device says that there is no room.
    let error = std::fs::write("/dev/full", b"x").unwrap_err();
    assert_eq!(backstay_core::Error::io(error, "Write").kind(), ErrorKind::Unavailable);
    let dir = tempfile::tempdir().unwrap();
    let refused = sink(&dir.path().join("none/disk"), ImageFormat::Raw, 1, false).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    let refused = sink(Path::new("/dev/full"), ImageFormat::Raw, 1, true).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn falling_offsets_are_refused_by_a_qcow2_sink() {
    let dir = tempfile::tempdir().unwrap();
    let target = sink(&dir.path().join("disk"), ImageFormat::Qcow2, 1 << 20, false).await.unwrap();
    target.write(65536, Bytes::from_static(&[1; 512])).await.unwrap();
    assert_eq!(target.write(0, Bytes::from_static(&[1; 512])).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(target.write(1 << 20, Bytes::from_static(&[1])).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}
