//! Every kind of qcow2 image that QEMU writes reads as QEMU reads it.

use std::path::Path;

use backstay_hypervisor::ImageFormat;

use crate::qemu::{self, Dice, scribble};

const MIB: u64 = 1 << 20;

/// How an image is made: by its name, from its options and its size.
struct Kind {
    name: &'static str,
    make: fn(&Path, &str, u64, &mut Dice),
    /// The smallest cluster it can have.
    least: u64,
    /// Versions it can have.
    versions: &'static [&'static str],
}

const BOTH: &[&str] = &["0.10", "1.1"];
const NEW: &[&str] = &["1.1"];

const KINDS: &[Kind] = &[
    Kind { name: "plain", make: plain, least: 512, versions: BOTH },
    Kind { name: "zlib", make: zlib, least: 512, versions: BOTH },
    Kind { name: "zstd", make: zstd, least: 512, versions: NEW },
    Kind { name: "extended_l2", make: extended, least: 16384, versions: NEW },
    Kind { name: "data_file", make: data_file, least: 512, versions: NEW },
    Kind { name: "data_file_raw", make: data_file_raw, least: 512, versions: NEW },
    Kind { name: "backing_raw", make: backing_raw, least: 512, versions: BOTH },
    Kind { name: "backing_chain", make: backing_chain, least: 512, versions: BOTH },
    Kind { name: "backing_extended", make: backing_extended, least: 16384, versions: NEW },
    Kind { name: "snapshot", make: snapshot, least: 512, versions: BOTH },
    Kind { name: "metadata", make: preallocated, least: 512, versions: BOTH },
];

fn create(dir: &Path, image: &str, options: &str, size: u64) {
    qemu::run(dir, &format!("qemu-img create -f qcow2 -o {options} {image} {size}"));
}

fn plain(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    create(dir, "image", options, size);
    qemu::io(dir, "image", "qcow2", &scribble(dice, size, 24));
}

fn compressed(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    qemu::run(dir, &format!("qemu-img create -f raw from {size}"));
    qemu::io(dir, "from", "raw", &scribble(dice, size, 24));
    // Text compresses; noise does not, and is stored plain beside it.
    let mut bytes = std::fs::read(dir.join("from")).unwrap();
    let third = bytes.len() / 3;
    bytes[..third / 2].iter_mut().for_each(|byte| *byte = b'a' + dice.below(7) as u8);
    bytes[third..third + third / 2].iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
    std::fs::write(dir.join("from"), bytes).unwrap();
    qemu::run(dir, &format!("qemu-img convert -c -f raw -O qcow2 -o {options} from image"));
    qemu::io(dir, "image", "qcow2", &scribble(dice, size, 4));
}

fn zlib(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    compressed(dir, options, size, dice);
}

fn zstd(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    compressed(dir, &format!("{options},compression_type=zstd"), size, dice);
}

fn extended(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    plain(dir, &format!("{options},extended_l2=on"), size, dice);
}

fn data_file(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    plain(dir, &format!("{options},data_file=data"), size, dice);
}

fn data_file_raw(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    plain(dir, &format!("{options},data_file=data,data_file_raw=on"), size, dice);
}

fn backing_raw(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    // Shorter than what builds on it, and no multiple of a sector.
    let below = size / 2 + 100;
    let bytes: Vec<u8> = (0..below).map(|_| dice.below(256) as u8).collect();
    std::fs::write(dir.join("base"), bytes).unwrap();
    plain(dir, &format!("{options},backing_file=base,backing_fmt=raw"), size, dice);
}

fn chain(dir: &Path, options: &str, size: u64, dice: &mut Dice, top: &str) {
    create(dir, "base", options, size + MIB);
    qemu::io(dir, "base", "qcow2", &scribble(dice, size + MIB, 16));
    create(dir, "middle", &format!("{options},backing_file=base,backing_fmt=qcow2"), size / 2);
    qemu::io(dir, "middle", "qcow2", &scribble(dice, size / 2, 8));
    create(dir, "image", &format!("{options}{top},backing_file=middle,backing_fmt=qcow2"), size);
    qemu::io(dir, "image", "qcow2", &scribble(dice, size, 8));
}

fn backing_chain(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    chain(dir, options, size, dice, "");
}

fn backing_extended(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    chain(dir, options, size, dice, ",extended_l2=on");
}

fn snapshot(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    plain(dir, options, size, dice);
    qemu::run(dir, "qemu-img snapshot -c one image");
    qemu::io(dir, "image", "qcow2", &scribble(dice, size, 12));
    qemu::run(dir, "qemu-img snapshot -c two image");
}

fn preallocated(dir: &Path, options: &str, size: u64, dice: &mut Dice) {
    plain(dir, &format!("{options},preallocation=metadata"), size, dice);
}

async fn check(kind: &Kind, version: &str, cluster: u64, size: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(cluster * 31 + size + kind.name.len() as u64);
    (kind.make)(dir.path(), &format!("compat={version},cluster_size={cluster}"), size, &mut dice);
    let source = qemu::open(dir.path(), "image", ImageFormat::Qcow2).await.unwrap();
    let expected = qemu::converted(dir.path(), "image", "qcow2");
    let label = format!("{} {version} {cluster} {size}", kind.name);
    assert_eq!(expected.len() as u64, size, "{label}");
    for window in [16 << 20, 100_003] {
        let bytes = qemu::read_all(&source, window).await.unwrap();
        assert!(bytes == expected, "{label} window {window}");
    }
}

async fn check_kind(name: &str) {
    if !qemu::available() {
        return;
    }
    let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
    for version in kind.versions {
        for cluster in [512, 4096, 65536, 2 << 20] {
            if cluster >= kind.least {
                // The last cluster is not full.
                let size = if cluster == 512 { 2 * MIB + 512 } else { 5 * MIB + 1536 };
                check(kind, version, cluster, size).await;
            }
        }
    }
}

macro_rules! kinds {
    ($($test:ident => $name:literal),* $(,)?) => {
        $(#[tokio::test]
        async fn $test() {
            check_kind($name).await;
        })*

        #[test]
        fn every_kind_of_image_has_its_test() {
            assert_eq!([$($name),*], *KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>());
        }
    };
}

kinds! {
    plain_images_read_as_qemu_reads_them => "plain",
    images_compressed_with_zlib_read_as_qemu_reads_them => "zlib",
    images_compressed_with_zstd_read_as_qemu_reads_them => "zstd",
    images_with_subclusters_read_as_qemu_reads_them => "extended_l2",
    images_with_a_data_file_read_as_qemu_reads_them => "data_file",
    images_with_a_raw_data_file_read_as_qemu_reads_them => "data_file_raw",
    images_over_a_short_raw_file_read_as_qemu_reads_them => "backing_raw",
    chains_of_three_images_read_as_qemu_reads_them => "backing_chain",
    subclusters_over_a_chain_read_as_qemu_reads_them => "backing_extended",
    images_with_internal_snapshots_read_as_qemu_reads_them => "snapshot",
    preallocated_images_read_as_qemu_reads_them => "metadata",
}
