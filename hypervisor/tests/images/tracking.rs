//! What changed since an earlier backup: never a guess.

use std::{path::Path, time::Duration};

use backstay_core::{
    ChangeBase, ChangedBlocks, Context, DiskSource, ErrorKind, RangeSet, Recorder, RestorePointId, Result,
};
use backstay_hypervisor::{ImageFormat, ImageGate, ImageSource, Tracking, open_image};

use crate::qemu;

const POINT: RestorePointId = RestorePointId::from_bytes([7; 16]);
const MIB: u64 = 1 << 20;

async fn open(path: &Path, format: ImageFormat, tracking: &Tracking) -> Result<ImageSource> {
    let gate = ImageGate::directory(path.parent().unwrap());
    open_image(path, format, &gate, tracking, &Context::default()).await
}

async fn base(path: &Path, format: ImageFormat, tracking: &Tracking) -> ChangeBase {
    let source = open(path, format, tracking).await.unwrap();
    ChangeBase { point: POINT, size: source.size(), token: source.change_token().await.unwrap() }
}

async fn changed(path: &Path, format: ImageFormat, tracking: &Tracking, base: &ChangeBase) -> ChangedBlocks {
    open(path, format, tracking).await.unwrap().changed_since(base).await.unwrap()
}

fn reason(changed: ChangedBlocks) -> String {
    match changed {
        ChangedBlocks::Unknown { reason } => reason,
        known => panic!("{known:?}"),
    }
}

fn set(ranges: &[std::ops::Range<u64>]) -> ChangedBlocks {
    ChangedBlocks::Exact(ranges.iter().cloned().collect::<RangeSet>())
}

/// Long enough that the next write leaves another time.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

#[tokio::test]
async fn an_untouched_file_is_vouched_for_only_when_trusted_and_not_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let (path, raw) = (dir.path().join("disk"), ImageFormat::Raw);
    let trust = Tracking::default().trust_mtime(true);
    std::fs::write(&path, vec![1; 4096]).unwrap();
    let racy = base(&path, raw, &trust).await;
    assert!(reason(changed(&path, raw, &trust, &racy).await).contains("just before"));
    pause().await;
    let then = base(&path, raw, &Tracking::default()).await;
    assert_eq!(changed(&path, raw, &trust, &then).await, ChangedBlocks::Untouched);
    assert!(reason(changed(&path, raw, &Tracking::default(), &then).await).contains("nothing tracks"));
    let unmarked = ChangeBase { token: None, ..then.clone() };
    assert!(reason(changed(&path, raw, &trust, &unmarked).await).contains("no change token"));
    // A write whose time of modification is set back is seen by the time of the status change.
    let old = path.metadata().unwrap().modified().unwrap();
    std::fs::write(&path, vec![2; 4096]).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    assert!(reason(changed(&path, raw, &trust, &then).await).contains("other times"));
}

#[tokio::test]
async fn a_bitmap_gives_every_bit_that_is_set_as_long_as_it_only_grows() {
    if !qemu::available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let run = |line: &str| qemu::run(dir.path(), line);
    let write = |command: &str| qemu::io(dir.path(), "disk", "qcow2", &[command.to_owned()]);
    let (path, qcow2) = (dir.path().join("disk"), ImageFormat::Qcow2);
    let tracking = Tracking::default().bitmap("b");
    run("qemu-img create -f qcow2 disk 64M");
    let without = base(&path, qcow2, &tracking).await;
    assert!(reason(changed(&path, qcow2, &tracking, &without).await).contains("no bitmap \"b\""));
    run("qemu-img bitmap --add -g 64k disk b");
    assert!(reason(changed(&path, qcow2, &tracking, &without).await).contains("did not record"));
    write("write -P 1 1M 100k");
    let then = base(&path, qcow2, &tracking).await;
    let first = MIB..MIB + 131_072;
    assert_eq!(changed(&path, qcow2, &tracking, &then).await, set(std::slice::from_ref(&first)));
    write("write -P 2 67043328 512");
    write("write -z 8M 64k");
    let now = [first.clone(), 8 * MIB..8 * MIB + 65536, 1023 * 65536..64 * MIB];
    assert_eq!(changed(&path, qcow2, &tracking, &then).await, set(&now));

    let source = open(&path, qcow2, &tracking).await.unwrap();
    let all = source.bitmaps().await.unwrap();
    assert!(all.len() == 1 && all[0].granularity == 65536 && all[0].enabled && all[0].consistent);
    assert_eq!(ChangedBlocks::Exact(source.bitmap("b").await.unwrap()), set(&now));

    run("qemu-img bitmap --disable disk b");
    assert!(reason(changed(&path, qcow2, &tracking, &then).await).contains("disabled"));
    run("qemu-img bitmap --enable disk b");
    assert_eq!(changed(&path, qcow2, &tracking, &then).await, set(&now));
    run("qemu-img bitmap --clear disk b");
    assert!(reason(changed(&path, qcow2, &tracking, &then).await).contains("lacks bits"));
    // Another granularity is another bitmap.
    run("qemu-img bitmap --remove disk b");
    run("qemu-img bitmap --add -g 128k disk b");
    write("write -P 1 0 64M");
    assert!(reason(changed(&path, qcow2, &tracking, &then).await).contains("granularity"));
}

#[tokio::test]
async fn a_bitmap_in_use_is_not_believed() {
    if !qemu::available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (path, qcow2) = (dir.path().join("disk"), ImageFormat::Qcow2);
    let tracking = Tracking::default().bitmap("b");
    qemu::run(dir.path(), "qemu-img create -f qcow2 disk 1M");
    qemu::run(dir.path(), "qemu-img bitmap --add disk b");
    let then = base(&path, qcow2, &tracking).await;
    let mut running = std::process::Command::new("qemu-io")
        .args(["-f", "qcow2"])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // It is running once it has taken its lock.
    let mut warned = false;
    for _ in 0..100 {
        let recorder = std::sync::Arc::new(Recorder::default());
        let ctx = Context::default().with_events(recorder.clone());
        drop(open_image(&path, qcow2, &ImageGate::none(), &tracking, &ctx).await.unwrap());
        warned = recorder.warnings().iter().any(|warning| warning.contains("running QEMU"));
        if warned {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(warned, "an image that is open for writing is warned of");
    // Killed, so that the bitmap stays marked as in use.
    std::io::Write::write_all(running.stdin.as_mut().unwrap(), b"write -P 1 0 64k\nflush\n").unwrap();
    pause().await;
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(reason(changed(&path, qcow2, &tracking, &then).await).contains("inconsistent"));
}

#[tokio::test]
async fn a_bitmap_is_not_believed_over_a_backing_file_that_changed() {
    if !qemu::available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (path, qcow2) = (dir.path().join("disk"), ImageFormat::Qcow2);
    let tracking = Tracking::default().bitmap("b");
    qemu::run(dir.path(), "qemu-img create -f qcow2 base 1M");
    qemu::run(dir.path(), "qemu-img create -f qcow2 -b base -F qcow2 disk 1M");
    qemu::run(dir.path(), "qemu-img bitmap --add disk b");
    pause().await;
    let then = base(&path, qcow2, &tracking).await;
    assert_eq!(changed(&path, qcow2, &tracking, &then).await, set(&[]));
    qemu::io(dir.path(), "base", "qcow2", &["write -P 1 0 64k".to_owned()]);
    assert!(reason(changed(&path, qcow2, &tracking, &then).await).contains("backing file"));
}

#[tokio::test]
async fn a_ranges_file_counts_only_when_everything_matches() {
    let dir = tempfile::tempdir().unwrap();
    let (path, list, raw) = (dir.path().join("disk"), dir.path().join("ranges"), ImageFormat::Raw);
    std::fs::write(&path, vec![1; 4096]).unwrap();
    let tracking = Tracking::default().ranges(&list);
    let then = ChangeBase { point: POINT, size: 4096, token: None };
    let with = |since: &str, size: &str, ranges: &str| {
        std::fs::write(&list, format!(r#"{{"since": {since}, "size": {size}, "ranges": {ranges}}}"#)).unwrap();
    };
    let (since, other) = (format!("{:?}", POINT.to_string()), format!("{:?}", "00".repeat(16)));
    with(&since, "4096", "[[512, 512], [0, 100], [4096, 0]]");
    assert_eq!(changed(&path, raw, &tracking, &then).await, set(&[0..100, 512..1024]));
    for (since, size, ranges, why) in [
        (&other, "4096", "[]", "counts from"),
        (&since, "4095", "[]", "of 4095 bytes"),
        (&since, "4096", "[[4000, 97]]", "past the end"),
        (&since, "4096", "[[18446744073709551615, 2]]", "past the end"),
        (&since, "4096", "[[1, 2, 3]]", "not as it must be"),
        (&since, "4096", "[[-1, 2]]", "not as it must be"),
        (&since, "\"4096\"", "[]", "not as it must be"),
        (&"\"xyz\"".to_owned(), "4096", "[]", "not as it must be"),
        (&since, "4096", "[], \"more\": 1", "not as it must be"),
    ] {
        with(since, size, ranges);
        let reason = reason(changed(&path, raw, &tracking, &then).await);
        assert!(reason.contains(why), "{reason}");
    }
    for garbage in ["", "{", "ranges: 1"] {
        std::fs::write(&list, garbage).unwrap();
        assert_eq!(open(&path, raw, &tracking).await.unwrap_err().kind(), ErrorKind::InvalidInput, "{garbage}");
    }
    std::fs::remove_file(&list).unwrap();
    assert_eq!(open(&path, raw, &tracking).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, vec![1; 1 << 20]).unwrap();
    pause().await;
    let source = open(&path, ImageFormat::Raw, &Tracking::default()).await.unwrap();
    source.read(0..4096, Vec::new()).await.unwrap();
    source.verify_unchanged().await.unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"new", 500_000).unwrap();
    let error = source.read(0..4096, Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(source.changed_while_reading());
    assert_eq!(source.change_token().await.unwrap_err().kind(), ErrorKind::Conflict);
}
