//! No room, no permission.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::Command,
};

use crate::kit::{Home, MIB, content, failed};

/// A small file system in memory, for the repository.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let option = format!("size={size},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(&at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        println!("skipped: a file system cannot be mounted here");
        None
    }

    fn grow(&self, size: &str) {
        let option = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &option]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().unwrap();
    }
}

#[test]
fn a_full_disk_is_told_with_what_to_do_and_loses_nothing() {
    let home = Home::empty();
    let Some(disk) = Small::mount(home.path("repo"), "24m") else { return };
    home.ok(["init", "--key-file", "key", "--no-recovery", "--pack-size", "1M"]);
    let small = content(50, 8 * MIB);
    home.disk("a.raw", &small);
    home.backup(["a.raw"]);
    let mut numbers = crate::kit::Numbers(7);
    let mut large = vec![0; 64 * MIB];
    numbers.fill(&mut large);
    home.disk("a.raw", &large);
    for _ in 0..3 {
        let error = home.fails(17, ["backup", "a.raw", "--workload", "w"]);
        assert_eq!(error["kind"], "Unavailable");
        assert!(error["message"].as_str().unwrap().contains("make room"), "{error}");
    }
    // What was there before is as it was, also while the disk is full.
    assert!(home.restored("latest", "disk0") == small);
    home.check();
    disk.grow("200m");
    home.backup(["a.raw"]);
    assert!(home.restored("latest", "disk0") == large);
    home.check();
}

#[test]
fn a_full_target_is_told_and_no_file_is_left() {
    let home = Home::new();
    let mut numbers = crate::kit::Numbers(9);
    let mut disk = vec![0; 16 * MIB];
    numbers.fill(&mut disk);
    home.disk("a.raw", &disk);
    home.backup(["a.raw"]);
    let Some(_small) = Small::mount(home.path("target"), "4m") else { return };
    let error = home.fails(17, ["restore", "latest", "--to", "target/disk.raw"]);
    assert!(error["message"].as_str().unwrap().contains("make room"), "{error}");
    assert_eq!(std::fs::read_dir(home.path("target")).unwrap().count(), 0);
}

#[test]
fn what_may_not_be_read_or_written_is_permission_denied() {
    let home = Home::new();
    home.disk("secret.raw", &content(51, MIB));
    home.disk("open.raw", &content(51, MIB));
    for (name, mode) in [("secret.raw", 0o000), ("open.raw", 0o644), ("key", 0o644), (".", 0o755)] {
        std::fs::set_permissions(home.path(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    let run = |args: &[&str]| {
        let mut command = home.command(args);
        command.arg("--json");
        if rustix::process::getuid().is_root() {
            command.uid(65534).gid(65534);
        }
        command.output()
    };
    let Ok(output) = run(&["backup", "secret.raw", "--workload", "w"]) else {
        println!("skipped: the binary cannot be run as another user");
        return;
    };
    let error = failed(14, output);
    assert!(error["context"]["path"].as_str().unwrap().ends_with("secret.raw"));
    if rustix::process::getuid().is_root() {
        // The repository is its owner's alone.
        failed(14, run(&["points"]).unwrap());
        failed(14, run(&["init", "elsewhere", "--passphrase-command", "echo x"]).unwrap());
    }
    assert!(home.points().is_empty());
}
