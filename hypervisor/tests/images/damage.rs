//! Damaged and hostile images: an error of the right kind, in bounded time and memory, and never other bytes than QEMU's.

use std::{path::Path, time::Instant};

use backstay_core::ErrorKind;
use backstay_hypervisor::{ImageFormat, image::MemoryImage};
use proptest::prelude::*;

use crate::qemu::{self, Dice, scribble};

/// Small images of several kinds, made by QEMU.
fn samples(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let kinds = [
        ("plain", "-o cluster_size=4k", ""),
        ("v2", "-o compat=0.10,cluster_size=512", ""),
        ("large", "-o cluster_size=64k", ""),
        ("subclusters", "-o cluster_size=16k,extended_l2=on", ""),
        ("snapshot", "-o cluster_size=4k", "qemu-img snapshot -c one NAME"),
        ("bitmap", "-o cluster_size=4k", "qemu-img bitmap --add NAME b"),
        ("zlib", "-o cluster_size=4k", "qemu-img convert -c -O qcow2 -o cluster_size=4k NAME NAME.c"),
        ("zstd", "-o cluster_size=4k", "qemu-img convert -c -O qcow2 -o compression_type=zstd NAME NAME.c"),
    ];
    let mut found = Vec::new();
    for (name, options, after) in kinds {
        let mut dice = Dice(name.len() as u64 + 3);
        qemu::run(dir, &format!("qemu-img create -f qcow2 {options} {name} 1M"));
        qemu::io(dir, name, "qcow2", &scribble(&mut dice, 1 << 20, 6));
        if !after.is_empty() {
            qemu::run(dir, &after.replace("NAME", name));
            if after.contains("convert") {
                std::fs::rename(dir.join(format!("{name}.c")), dir.join(name)).unwrap();
            } else {
                qemu::io(dir, name, "qcow2", &scribble(&mut dice, 1 << 20, 4));
            }
        }
        found.push((name.to_owned(), std::fs::read(dir.join(name)).unwrap()));
    }
    found
}

fn judge(bytes: Vec<u8>) -> Result<u64, ErrorKind> {
    let judge = |bytes| {
        let image = MemoryImage::open(bytes)?;
        let _either = image.bitmaps();
        image.walk(64 << 20)
    };
    judge(bytes).map_err(|error| error.kind())
}

fn is_refusal(kind: ErrorKind) -> bool {
    use ErrorKind::{Integrity, InvalidInput, PermissionDenied, Unsupported};
    matches!(kind, Integrity | InvalidInput | Unsupported | PermissionDenied)
}

#[test]
fn flipped_bytes_and_patched_tables_never_panic_or_run_away() {
    if !qemu::available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let samples = samples(dir.path());
    let patches = prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0u8..4), 1..6);
    let started = Instant::now();
    proptest!(ProptestConfig::with_cases(1500), |(sample in 0..samples.len(), patches in patches, head in any::<bool>())| {
        let mut bytes = samples[sample].1.clone();
        let len = if head { bytes.len().min(200) } else { bytes.len() };
        for (index, value, how) in &patches {
            let at = index.index(len);
            match how {
                0 => bytes[at] ^= 1 << (value % 8),
                1 => bytes[at] = *value as u8,
                // A table entry that points somewhere into the file, or anywhere.
                2 => {
                    let at = (at & !7).min(bytes.len() - 8);
                    let value = ((value % bytes.len() as u64) & !511) | value & (3 << 62);
                    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
                }
                _ => {
                    let at = (at & !7).min(bytes.len() - 8);
                    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
                }
            }
        }
        if let Err(kind) = judge(bytes) {
            prop_assert!(is_refusal(kind), "{:?}", kind);
        }
    });
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_truncated_image_is_an_error_whenever_qemu_finds_one_or_bytes_are_lost() {
    if !qemu::available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut both_bad, mut both_good) = (0, 0);
    for (name, bytes) in samples(dir.path()) {
        let whole = qemu::converted(dir.path(), &name, "qcow2");
        let step = bytes.len() / 11 + 1;
        let cuts = (1..11)
            .map(|number| number * step)
            .chain([1, 512, 4096, 65536].map(|less| bytes.len().saturating_sub(less)));
        for cut in cuts {
            std::fs::write(dir.path().join("cut"), &bytes[..cut]).unwrap();
            let check = qemu::try_run(dir.path(), "qemu-img check -f qcow2 cut");
            let source = qemu::open(dir.path(), "cut", ImageFormat::Qcow2).await;
            let ours = match source {
                Ok(source) => qemu::read_all(&source, 1 << 20).await,
                Err(error) => Err(error),
            };
            match (check.status.code(), ours) {
                (Some(0), Ok(ours)) => {
                    both_good += 1;
                    assert!(ours == qemu::converted(dir.path(), "cut", "qcow2"), "{name} cut to {cut}");
                }
                // Leaked clusters only: QEMU may have read zeroes for a table that is gone.
                (Some(3), _) => {}
                // QEMU reads a table that is gone as zeroes, without a word: then ours is the better verdict.
                (Some(0), Err(error)) => {
                    let convert = qemu::try_run(dir.path(), "qemu-img convert -f qcow2 -O raw cut cut.raw");
                    let lost = !convert.status.success() || std::fs::read(dir.path().join("cut.raw")).unwrap() != whole;
                    assert!(lost && error.kind() == ErrorKind::Integrity, "{name} cut to {cut}: {error}");
                }
                (_, Ok(_)) => panic!("{name} cut to {cut}: {}", String::from_utf8_lossy(&check.stdout)),
                (_, Err(error)) => {
                    both_bad += 1;
                    assert!(is_refusal(error.kind()), "{error}");
                }
            }
        }
    }
    assert!(both_bad > 50 && both_good > 0, "{both_bad} {both_good}");
}

/// An image by hand: header, refcount table, refcount block, L1 table, L2 tables, and one data cluster.
struct Forged {
    bytes: Vec<u8>,
    cluster: usize,
}

impl Forged {
    fn new(cluster_bits: u32, size: u64, l1_entries: u32, clusters: usize) -> Self {
        let cluster = 1usize << cluster_bits;
        let mut bytes = vec![0; cluster * clusters];
        bytes[..4].copy_from_slice(b"QFI\xfb");
        bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&cluster_bits.to_be_bytes());
        bytes[24..32].copy_from_slice(&size.to_be_bytes());
        bytes[36..40].copy_from_slice(&l1_entries.to_be_bytes());
        bytes[40..48].copy_from_slice(&(3 * cluster as u64).to_be_bytes());
        bytes[48..56].copy_from_slice(&(cluster as u64).to_be_bytes());
        bytes[56..60].copy_from_slice(&1u32.to_be_bytes());
        bytes[96..100].copy_from_slice(&4u32.to_be_bytes());
        bytes[100..104].copy_from_slice(&104u32.to_be_bytes());
        let mut forged = Self { bytes, cluster };
        forged.entry(1, 0, 2 * cluster as u64);
        forged
    }

    /// Sets entry `number` of the table in a cluster.
    fn entry(&mut self, cluster: usize, number: usize, value: u64) {
        let at = cluster * self.cluster + number * 8;
        self.bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }

    fn verdict(&self) -> Result<u64, ErrorKind> {
        judge(self.bytes.clone())
    }
}

#[test]
fn reference_bombs_are_refused_at_once() {
    let started = Instant::now();
    let (cluster, span) = (65536u64, 8192usize);
    // Every L1 entry names the same L2 table.
    let mut same_table = Forged::new(16, 4 << 40, 8192, 6);
    (0..8192).for_each(|number| same_table.entry(3, number, 4 * cluster));
    assert_eq!(same_table.verdict(), Err(ErrorKind::Integrity));
    // Every cluster of the disk is the same one, plain or compressed.
    for flags in [0, 1 << 62] {
        let mut same_cluster = Forged::new(16, 512 << 20, 1, 6);
        same_cluster.entry(3, 0, 4 * cluster);
        (0..span).for_each(|number| same_cluster.entry(4, number, (5 * cluster) | flags));
        assert_eq!(same_cluster.verdict(), Err(ErrorKind::Integrity), "{flags:x}");
    }
    // One cluster that two places share is harmless.
    let mut shared = Forged::new(16, 512 << 20, 1, 6);
    shared.entry(3, 0, 4 * cluster);
    (0..2).for_each(|number| shared.entry(4, number * 9, 5 * cluster));
    assert_eq!(shared.verdict(), Ok(2 * cluster));
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[test]
fn clusters_on_top_of_tables_out_of_place_or_out_of_the_file_are_refused() {
    let cluster = 65536u64;
    let damage = [
        ("the header", 0x200),
        ("the refcount table", cluster),
        ("a refcount block", 2 * cluster),
        ("the L1 table", 3 * cluster),
        ("its own table", 4 * cluster),
        ("the end of the file", 6 * cluster),
        ("far away", 1 << 50),
        ("between clusters", 5 * cluster + 512),
        ("reserved bits", (5 * cluster) | (1 << 60)),
        ("compressed over a table", (1 << 62) | (3 * cluster + 7)),
    ];
    for (what, entry) in damage {
        let mut image = Forged::new(16, 1 << 20, 1, 6);
        image.entry(3, 0, 4 * cluster);
        image.entry(4, 3, entry);
        assert_eq!(image.verdict(), Err(ErrorKind::Integrity), "{what}");
    }
    for (what, entry) in [("the L1 table", 3 * cluster), ("the end", 6 * cluster), ("between", 4 * cluster + 512)] {
        let mut image = Forged::new(16, 1 << 20, 1, 6);
        image.entry(3, 0, entry);
        assert_eq!(image.verdict(), Err(ErrorKind::Integrity), "{what}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let refused = |patch: &dyn Fn(&mut Vec<u8>)| {
        let mut image = Forged::new(16, 1 << 20, 1, 6);
        patch(&mut image.bytes);
        MemoryImage::open(image.bytes).unwrap_err()
    };
    let feature = |bytes: &mut Vec<u8>, bits: u64| bytes[72..80].copy_from_slice(&bits.to_be_bytes());
    let luks = refused(&|bytes| bytes[35] = 2);
    assert!(luks.kind() == ErrorKind::Unsupported && luks.to_string().contains("LUKS"), "{luks}");
    let aes = refused(&|bytes| bytes[35] = 1);
    assert!(aes.kind() == ErrorKind::Unsupported && aes.to_string().contains("AES"), "{aes}");
    let unnamed = refused(&|bytes| feature(bytes, 1 << 40));
    assert!(unnamed.kind() == ErrorKind::Unsupported && unnamed.to_string().contains("bit 40"), "{unnamed}");
    let named = refused(&|bytes| {
        feature(bytes, 1 << 7);
        bytes[104..112].copy_from_slice(&[0x68, 0x03, 0xf8, 0x57, 0, 0, 0, 48]);
        bytes[112..114].copy_from_slice(&[0, 7]);
        bytes[114..125].copy_from_slice(b"time travel");
    });
    assert!(named.kind() == ErrorKind::Unsupported && named.to_string().contains("time travel"), "{named}");
    let corrupt = refused(&|bytes| feature(bytes, 2));
    assert!(corrupt.kind() == ErrorKind::Integrity && corrupt.to_string().contains("qemu-img check -r"), "{corrupt}");
    assert_eq!(refused(&|bytes| bytes[7] = 4).kind(), ErrorKind::Unsupported);
    assert_eq!(refused(&|bytes| bytes[0] = 0).kind(), ErrorKind::InvalidInput);
    // Lazy refcounts are no obstacle to reading.
    let mut dirty = Forged::new(16, 1 << 20, 1, 6);
    feature(&mut dirty.bytes, 1);
    assert_eq!(dirty.verdict(), Ok(0));
}

#[test]
fn a_sparse_image_of_four_tebibytes_is_walked_in_a_few_steps() {
    let image = MemoryImage::open(Forged::new(16, 4 << 40, 8192, 5).bytes).unwrap();
    let started = Instant::now();
    for _ in 0..1000 {
        assert_eq!(image.extents(0..4 << 40).unwrap().len(), 1);
    }
    assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
}

#[tokio::test]
async fn chains_that_loop_are_too_long_or_do_not_say_their_format_are_refused() {
    if !qemu::available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let run = |line: &str| qemu::run(dir.path(), line);
    run("qemu-img create -f qcow2 i0 1M");
    for number in 1..66 {
        run(&format!("qemu-img create -q -f qcow2 -u -b i{} -F qcow2 i{number} 1M", number - 1));
    }
    let kind =
        async |name: &str| qemu::open(dir.path(), name, ImageFormat::Qcow2).await.err().map(|error| error.kind());
    assert_eq!(kind("i63").await, None);
    assert_eq!(kind("i64").await, Some(ErrorKind::InvalidInput));
    run("qemu-img rebase -f qcow2 -u -b i5 -F qcow2 i0");
    assert_eq!(kind("i5").await, Some(ErrorKind::Integrity));
    run("qemu-img create -q -f qcow2 -u -b nbd://host/disk -F raw remote 1M");
    assert_eq!(kind("remote").await, Some(ErrorKind::Unsupported));
    run("qemu-img create -q -f qcow2 -u -b gone -F raw orphan 1M");
    assert_eq!(kind("orphan").await, Some(ErrorKind::NotFound));
    run("qemu-img create -q -f qcow2 -o compat=0.10 -u -b i70 -F qcow2 silent 1M");
    // Without its header extension, the image does not say what its backing file is.
    let mut bytes = std::fs::read(dir.path().join("silent")).unwrap();
    let at = bytes.windows(4).position(|four| four == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
    bytes[at] = 0x11;
    std::fs::write(dir.path().join("silent"), bytes).unwrap();
    run("qemu-img create -q -f qcow2 i70 1M");
    assert_eq!(kind("silent").await, Some(ErrorKind::InvalidInput));
}
