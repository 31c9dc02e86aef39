//! Three ways not to read everything, and what is said when they do not work out. Counted in bytes, not in seconds.

use std::time::Duration;

use serde_json::Value;

use crate::kit::{Home, MIB, content, tool};

const SIZE: usize = 64 * MIB;

fn method(made: &Value) -> (&str, u64) {
    (made["disks"][0]["method"].as_str().unwrap(), made["disks"][0]["read_bytes"].as_u64().unwrap())
}

/// Full of data, so that what is read can be counted.
fn disk() -> Vec<u8> {
    content(30, SIZE).iter().map(|byte| byte | 1).collect()
}

fn assert_restores(home: &Home, points: &[Vec<u8>]) {
    for (point, expected) in home.points().iter().zip(points) {
        assert!(home.restored(point["id"].as_str().unwrap(), "disk0") == *expected, "{point}");
    }
    assert_eq!(home.points().len(), points.len());
    home.check();
}

#[test]
fn without_tracking_everything_is_read_and_little_is_stored() {
    let home = Home::new();
    let mut disk = disk();
    home.disk("a.raw", &disk);
    let mut states = vec![disk.clone()];
    assert_eq!(method(&home.backup(["a.raw"])), ("full", SIZE as u64));
    disk[5 * MIB..5 * MIB + 4096].fill(0x55);
    home.disk("a.raw", &disk);
    states.push(disk.clone());
    let made = home.backup(["a.raw"]);
    assert_eq!(method(&made), ("compared", SIZE as u64));
    assert_eq!(made["warnings"], Value::Array(vec![]));
    assert!(made["disks"][0]["reason"].is_string());
    assert!(made["point"]["stored_bytes"].as_u64().unwrap() < MIB as u64);
    states.push(disk);
    assert_eq!(method(&home.backup(["a.raw", "--full"])), ("full", SIZE as u64));
    assert_restores(&home, &states);
}

#[test]
fn a_bitmap_says_what_to_read_and_a_lost_one_is_a_warning() {
    let home = Home::new();
    let mut disk = disk();
    home.disk("a.raw", &disk);
    let image = home.text("a.qcow2");
    if !tool("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", &home.text("a.raw"), &image]) {
        return;
    }
    let bitmap = |verb: &str| tool("qemu-img", ["bitmap", verb, &image, "b"]);
    bitmap("--add");
    let mut states = vec![disk.clone()];
    assert_eq!(method(&home.backup(["a.qcow2", "--bitmap", "b"])).0, "full");
    for (at, fill) in [(3 * MIB, 0x11_u8), (33 * MIB, 0x22)] {
        if !tool("qemu-io", ["-f", "qcow2", "-c", &format!("write -P {fill} {at} 64k"), &image]) {
            return;
        }
        disk[at..at + 65536].fill(fill);
    }
    states.push(disk.clone());
    let made = home.backup(["a.qcow2", "--bitmap", "b", "--sample", "0"]);
    let (how, read) = method(&made);
    assert_eq!(how, "changed");
    // The two dirty clusters and about four chunks around each.
    assert!((2 * 65536..20 * 65536).contains(&read), "{read}");
    // Nothing changed since, so these two differ by the samples alone.
    let plain = method(&home.backup(["a.qcow2", "--bitmap", "b", "--sample", "0"])).1;
    let sampled = method(&home.backup(["a.qcow2", "--bitmap", "b", "--sample", "8"])).1;
    assert!(sampled > plain && sampled <= plain + 8 * 4 * 65536, "{plain} {sampled}");
    states.extend([disk.clone(), disk.clone()]);

    bitmap("--clear");
    let made = home.backup(["a.qcow2", "--bitmap", "b"]);
    assert_eq!(method(&made), ("compared", SIZE as u64));
    let warning = made["warnings"][0].as_str().unwrap();
    assert!(warning.contains("disk0") && warning.contains("cleared"), "{warning}");
    states.push(disk);
    assert_restores(&home, &states);
    let shown = home.command(["backup", "a.qcow2", "--bitmap", "none", "--workload", "w"]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stderr).starts_with("warning: Disk disk0 was read as a whole"));
}

#[test]
fn a_bitmap_that_lies_is_found_out_by_samples() {
    let home = Home::new();
    home.disk("a.raw", &disk());
    let image = home.text("a.qcow2");
    let convert = || tool("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", &home.text("a.raw"), &image]);
    if !convert() {
        return;
    }
    tool("qemu-img", ["bitmap", "--add", &image, "b"]);
    home.backup(["a.qcow2", "--bitmap", "b"]);
    // All of it is something else, and the bitmap does not know.
    let other = content(31, SIZE);
    home.disk("a.raw", &other);
    convert();
    tool("qemu-img", ["bitmap", "--add", &image, "b"]);
    let made = home.backup(["a.qcow2", "--bitmap", "b", "--sample", "20"]);
    assert_eq!(method(&made).0, "compared");
    assert!(made["warnings"][0].as_str().unwrap().contains("change tracking is wrong"), "{made}");
    assert!(home.restored("latest", "disk0") == other);
}

#[test]
fn a_ranges_file_says_what_to_read_when_it_fits_the_parent() {
    let home = Home::new();
    let mut disk = disk();
    home.disk("a.raw", &disk);
    let mut states = vec![disk.clone()];
    let first = home.backup(["a.raw"]);
    let since = first["point"]["id"].as_str().unwrap().to_owned();
    disk[10 * MIB..11 * MIB].fill(0x33);
    home.disk("a.raw", &disk);
    let ranges = |since: &str, size: usize| {
        let document = serde_json::json!({ "since": since, "size": size, "ranges": [[10 * MIB, MIB]] });
        std::fs::write(home.path("ranges.json"), document.to_string()).unwrap();
    };
    ranges(&since, SIZE);
    let (how, read) = {
        let made = home.backup(["a.raw", "--ranges", "ranges.json", "--sample", "0"]);
        (method(&made).0.to_owned(), method(&made).1)
    };
    assert_eq!(how, "changed");
    assert!((MIB as u64..3 * MIB as u64).contains(&read), "{read}");
    states.push(disk.clone());
    // Of another point, and of another disk.
    for size in [SIZE, SIZE + 512] {
        ranges(&since, size);
        let made = home.backup(["a.raw", "--ranges", "ranges.json"]);
        assert_eq!(method(&made), ("compared", SIZE as u64));
        assert!(made["warnings"][0].as_str().unwrap().contains("ranges file"), "{made}");
        states.push(disk.clone());
    }
    std::fs::write(home.path("ranges.json"), "no json").unwrap();
    home.fails(11, ["backup", "a.raw", "--workload", "w", "--ranges", "ranges.json"]);
    assert_restores(&home, &states);
}

#[test]
fn an_untouched_image_is_not_read_when_its_times_are_trusted() {
    let home = Home::new();
    let mut disk = disk();
    home.disk("a.raw", &disk);
    // A file that was written just now could be written again in the same tick.
    std::thread::sleep(Duration::from_millis(300));
    home.backup(["a.raw"]);
    let made = home.backup(["a.raw", "--trust-mtime"]);
    assert_eq!(method(&made), ("untouched", 0));
    assert_eq!(made["point"]["method"], "untouched");
    let before = disk.clone();
    disk[MIB] ^= 1;
    home.disk("a.raw", &disk);
    let made = home.backup(["a.raw", "--trust-mtime"]);
    assert_eq!(method(&made), ("compared", SIZE as u64));
    assert_restores(&home, &[before.clone(), before, disk]);
}
