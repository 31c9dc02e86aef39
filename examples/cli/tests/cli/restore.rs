//! Where a disk may go, and what is left when it does not get there.

use std::{
    os::unix::fs::{MetadataExt, symlink},
    process::Command,
    time::{Duration, Instant},
};

use crate::kit::{Home, MIB, content};

#[test]
fn what_is_there_is_replaced_only_when_told_to() {
    let home = Home::new();
    let disk = content(20, 2 * MIB);
    home.disk("a.raw", &disk);
    home.backup(["a.raw"]);
    std::fs::write(home.path("there"), "precious").unwrap();
    symlink(home.path("there"), home.path("link")).unwrap();
    for target in ["there", "link"] {
        let error = home.fails(13, ["restore", "latest", "--to", target]);
        assert!(error["message"].as_str().unwrap().contains("--overwrite"));
    }
    assert_eq!(std::fs::read(home.path("there")).unwrap(), b"precious");
    home.json(["restore", "latest", "--to", "there", "--overwrite", "--verify"]);
    assert!(std::fs::read(home.path("there")).unwrap() == disk);
    home.fails(12, ["restore", "latest", "--to", "no/such/folder"]);
}

#[test]
fn a_range_is_those_bytes_and_no_others() {
    let home = Home::new();
    let disk = content(21, 6 * MIB);
    home.disk("a.raw", &disk);
    home.backup(["a.raw"]);
    for (number, (offset, len)) in
        [(0, 1), (4095, 2), (MIB, 3 * MIB), (6 * MIB - 5, 5), (12345, 0)].into_iter().enumerate()
    {
        let (target, range) = (format!("part{number}"), format!("{offset}:{len}"));
        home.json(["restore", "latest", "--to", &target, "--range", &range, "--verify"]);
        assert!(std::fs::read(home.path(&target)).unwrap() == disk[offset..offset + len], "{range}");
        let out = home.command(["restore", "latest", "--to", "-", "--range", &range]).output().unwrap();
        assert!(out.stdout == disk[offset..offset + len], "{range}");
    }
    home.fails(11, ["restore", "latest", "--to", "x", "--range", "5M:2M"]);
    assert!(!home.path("x").exists());
}

#[test]
fn holes_come_back_as_holes() {
    let home = Home::new();
    let mut disk = vec![0; 64 * MIB];
    disk[40 * MIB..41 * MIB].copy_from_slice(&content(22, 2 * MIB)[..MIB]);
    disk[40 * MIB] = 1;
    home.disk("a.raw", &disk);
    home.backup(["a.raw"]);
    home.ok(["restore", "latest", "--to", "b.raw"]);
    let meta = std::fs::metadata(home.path("b.raw")).unwrap();
    assert_eq!(meta.len(), disk.len() as u64);
    assert!(meta.blocks() * 512 < 2 * MIB as u64, "{}", meta.blocks());
}

#[test]
fn a_block_device_takes_a_disk_that_fits() {
    let home = Home::new();
    let disk = content(23, 4 * MIB);
    home.disk("a.raw", &disk);
    home.backup(["a.raw"]);
    home.disk("device", &vec![0xaa; 6 * MIB]);
    let Some(device) = Loop::attach(&home) else { return };
    home.fails(13, ["restore", "latest", "--to", &device.0]);
    home.json(["restore", "latest", "--to", &device.0, "--overwrite", "--verify"]);
    home.json(["backup", &device.0, "--workload", "device"]);
    let back = home.restored("device@latest", "disk0");
    assert!(back[..4 * MIB] == disk);
    assert!(back[4 * MIB..].iter().all(|byte| *byte == 0xaa), "what lies behind the disk is somebody else's");
}

/// A loop device over the file `device`.
struct Loop(String);

impl Loop {
    fn attach(home: &Home) -> Option<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(home.path("device")).output();
        match output {
            Ok(output) if output.status.success() => {
                Some(Self(String::from_utf8(output.stdout).unwrap().trim().into()))
            }
            _ => {
                println!("skipped: no loop device can be made here");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        Command::new("losetup").args(["--detach", &self.0]).status().unwrap();
    }
}

#[test]
fn a_restore_that_was_killed_leaves_no_file_that_looks_finished() {
    let home = Home::new();
    let disk = content(24, 48 * MIB);
    home.disk("a.raw", &disk);
    home.backup(["a.raw"]);
    let mut killed = 0;
    for round in 0..10 {
        let target = format!("out{round}/disk.raw");
        std::fs::create_dir(home.path(format!("out{round}"))).unwrap();
        let mut child = home.command(["restore", "latest", "--to", &target, "--quiet"]).spawn().unwrap();
        let folder = home.path(format!("out{round}"));
        let patience = Instant::now() + Duration::from_secs(20);
        // Until the file is being written.
        while std::fs::read_dir(&folder).unwrap().next().is_none() && Instant::now() < patience {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(3 * round));
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        for left in std::fs::read_dir(&folder).unwrap() {
            let left = left.unwrap();
            let whole = left.file_name() == "disk.raw";
            assert!(whole || left.file_name().to_string_lossy().ends_with(".bs-partial"));
            assert!(!whole || std::fs::read(left.path()).unwrap() == disk);
        }
    }
    assert!(killed >= 3, "{killed}");
}
