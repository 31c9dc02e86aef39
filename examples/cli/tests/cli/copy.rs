//! Restore points in a second repository, which has another key.

use std::{path::PathBuf, process::Command, time::Duration};

use serde_json::Value;

use crate::kit::{Home, MIB, Numbers, content, failed, feed, same_disk, succeeded};

/// A repository and an empty second one, `off`, which the key file `off.key` opens.
fn two() -> Home {
    let home = Home::new();
    home.ok(["init", "off", "--key-file", &home.text("off.key"), "--no-recovery", "--pack-size", "1M"]);
    home
}

const SIDES: [&str; 6] = ["copy", "--from", "repo", "--to", "off", "--to-key-file"];

fn copy_command(home: &Home, args: &[&str]) -> Command {
    home.command(SIDES.iter().copied().chain(["off.key"]).chain(args.iter().copied()))
}

fn copy(home: &Home, args: &[&str]) -> Value {
    let output = copy_command(home, args).arg("--json").output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&succeeded(output)).unwrap()
}

fn points_of(home: &Home, repository: &str, key: &str) -> Vec<Value> {
    home.json(["points", "--repo", repository, "--key-file", key]).as_array().unwrap().clone()
}

fn states(report: &Value) -> Vec<&str> {
    report["points"].as_array().unwrap().iter().map(|point| point["state"].as_str().unwrap()).collect()
}

fn checked(home: &Home) {
    let report = home.json(["check", "--read", "all", "--repo", "off", "--key-file", "off.key"]);
    assert_eq!(report["clean"], true, "{report}");
}

/// Restores a disk of the second repository next to the original.
fn restored(home: &Home, point: &str, name: &str) -> PathBuf {
    home.ok([
        "restore",
        point,
        "--disk",
        "disk0",
        "--to",
        name,
        "--overwrite",
        "--repo",
        "off",
        "--key-file",
        "off.key",
    ]);
    home.path(name)
}

#[test]
fn copies_are_the_original_images_and_only_new_points_are_copied_again() {
    let home = two();
    let mut disk = content(70, 24 * MIB + 512);
    let (mut originals, mut numbers) = (Vec::new(), Numbers(7));
    for round in 0..4_usize {
        match round {
            1 => numbers.fill(&mut disk[3 * MIB..3 * MIB + 50_000]),
            2 => disk.resize(40 * MIB + 4096, 0),
            3 => disk.truncate(17 * MIB),
            _ => {}
        }
        let image = home.disk(&format!("{round}.raw"), &disk);
        home.backup([image.to_str().unwrap(), "--label", &format!("round={round}")]);
        originals.push(image);
    }
    let dry = copy(&home, &["--dry-run"]);
    assert_eq!((states(&dry), &dry["dry_run"]), (vec!["missing"; 4], &Value::Bool(true)));
    assert_eq!(dry["points"][1]["base"], dry["points"][0]["source"]);
    assert!(points_of(&home, "off", "off.key").is_empty());

    let report = copy(&home, &[]);
    assert_eq!(states(&report), ["copied"; 4]);
    assert_eq!((&report["copied"], &report["failed"]), (&4.into(), &0.into()));
    // Of what grew the end of the old disk is read, of what was cut off the new end.
    let read = |at: usize| report["points"][at]["read_bytes"].as_u64().unwrap();
    assert!(read(1) < 2 * MIB as u64 && read(2) < 9 * MIB as u64 && read(3) < 2 * MIB as u64, "{report}");
    let (source, target) = (home.points(), points_of(&home, "off", "off.key"));
    for (at, (source, target)) in source.iter().zip(&target).enumerate() {
        for same in ["workload", "kind", "time", "consistency", "labels", "size"] {
            assert_eq!(source[same], target[same], "{same}");
        }
        assert_ne!(source["id"], target["id"]);
        assert_eq!(target["provenance"]["point"], source["id"]);
        assert_eq!(target["provenance"]["repository"], report["from"]["id"]);
        let back = restored(&home, target["id"].as_str().unwrap(), "back.raw");
        same_disk(&originals[at], &back);
        assert!(std::fs::read(&originals[at]).unwrap() == std::fs::read(&back).unwrap(), "{at}");
    }
    checked(&home);

    assert_eq!(states(&copy(&home, &[])), ["present"; 4]);
    home.backup(["3.raw"]);
    let again = copy(&home, &["w@latest"]);
    assert_eq!(states(&again), ["copied"]);
    assert!(again["stored_bytes"].as_u64().unwrap() < MIB as u64);
    // And back: nothing is new to where it came from.
    let args = ["copy", "--from", "off", "--from-key-file", "off.key", "--to", "repo", "--json"];
    let back: Value = serde_json::from_str(&succeeded(home.command(args).output().unwrap())).unwrap();
    assert_eq!(states(&back), ["returned"; 5]);
    let table = succeeded(copy_command(&home, &["--workload", "nobody"]).output().unwrap());
    assert!(table.starts_with("0 points copied"), "{table}");
}

#[test]
fn a_backup_beside_copies_compares_as_a_copy_has_no_token() {
    let home = two();
    let mut disk = content(71, 8 * MIB);
    home.disk("a.raw", &disk);
    std::thread::sleep(Duration::from_millis(300));
    home.backup(["a.raw"]);
    copy(&home, &[]);
    let beside = |home: &Home| {
        let to = ["--repo", "off", "--key-file", "off.key", "--workload", "w", "--trust-mtime"];
        home.json(["backup", "a.raw"].into_iter().chain(to))
    };
    let made = beside(&home);
    assert_eq!(made["disks"][0]["method"], "compared");
    assert!(made["disks"][0]["reason"].as_str().unwrap().contains("token"), "{made}");
    assert_eq!(beside(&home)["disks"][0]["method"], "untouched");
    disk[0] ^= 1;
    home.disk("a.raw", &disk);
    home.backup(["a.raw"]);
    assert_eq!(states(&copy(&home, &[])), ["present", "copied"]);
    assert!(std::fs::read(restored(&home, "w@latest", "back.raw")).unwrap() == disk);
    checked(&home);
}

#[test]
fn each_side_is_opened_by_its_own_key_and_by_no_other() {
    let home = two();
    home.disk("a.raw", &content(72, MIB));
    home.backup(["a.raw"]);
    let sides = ["copy", "--from", "repo", "--to", "off"];
    // The key of the source is not that of the target.
    let error = home.fails(14, sides);
    assert_eq!(error["context"]["side"], "to");
    let swapped = ["--from-key-file", "off.key", "--to-key-file", "key"];
    assert_eq!(home.fails(14, sides.into_iter().chain(swapped))["context"]["side"], "from");
    home.fails(11, sides.into_iter().chain(["--to-key-file", "off.key", "--to-passphrase-file", "x"]));
    home.fails(12, ["copy", "--from", "repo", "--to", "nowhere"]);
    let mut by_variables = home.command(sides);
    by_variables.env("BACKSTAY_TO_KEY_FILE", home.path("off.key")).env_remove("BACKSTAY_KEY_FILE");
    by_variables.env("BACKSTAY_FROM_KEY_FILE", home.path("key"));
    succeeded(by_variables.output().unwrap());
    // A passphrase for one and a key file for the other.
    std::fs::write(home.path("pass"), "correct horse").unwrap();
    home.ok(["init", "third", "--passphrase-file", "pass", "--no-recovery", "--key-file", "third.key"]);
    let mut third = home.command(["copy", "--from", "repo", "--to", "third", "--json"]);
    let made = succeeded(third.env("BACKSTAY_TO_PASSPHRASE", "correct horse").output().unwrap());
    assert_eq!(states(&serde_json::from_str(&made).unwrap()), ["copied"]);
}

#[test]
fn streams_come_along() {
    let home = two();
    let dump = content(73, 3 * MIB + 7);
    let made = feed(home.command(["backup", "-", "--workload", "db", "--stream-name", "dump"]), &dump);
    succeeded(made);
    copy(&home, &[]);
    let args = ["restore", "db@latest", "--stream", "dump", "--to", "-", "--repo", "off", "--key-file", "off.key"];
    assert!(home.command(args).output().unwrap().stdout == dump);
}

#[test]
fn one_damaged_point_is_told_at_the_end_and_the_others_are_copied() {
    let home = two();
    for round in 0..3 {
        home.disk("a.raw", &content(80 + round, 2 * MIB));
        home.backup(["a.raw"]);
    }
    let points = home.points();
    // The second of them: its record, then its data.
    let record = home.path("repo/points").join(points[1]["id"].as_str().unwrap());
    let whole = std::fs::read(&record).unwrap();
    let mut bent = whole.clone();
    bent[100] ^= 1;
    let replace = |bytes: &[u8]| {
        std::fs::remove_file(&record).unwrap();
        std::fs::write(&record, bytes).unwrap();
    };
    replace(&bent);
    let output = copy_command(&home, &["--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(18));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((states(&report), &report["failed"]), (vec!["copied"; 2], &1.into()));
    assert_eq!(report["damaged"][0]["kind"], "Integrity");
    let error = failed(18, copy_command(&home, &["--json", "w@latest"]).output().unwrap());
    assert!(error["message"].as_str().is_some());
    // Made whole again, it follows.
    replace(&whole);
    assert_eq!(states(&copy(&home, &[])), ["present", "copied", "present"]);
    checked(&home);
    let shown = copy_command(&home, &[]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("0 points copied"));
}

#[test]
fn killed_again_and_again_it_gets_there() {
    let home = two();
    let mut disk = content(90, 16 * MIB);
    let mut numbers = Numbers(91);
    let mut states_of_disk = Vec::new();
    for _ in 0..5 {
        let at = numbers.next() as usize % (12 * MIB);
        numbers.fill(&mut disk[at..at + 2 * MIB]);
        home.disk("a.raw", &disk);
        home.backup(["a.raw"]);
        states_of_disk.push(disk.clone());
    }
    let (mut kills, mut wait) = (0, 5);
    loop {
        let mut child = copy_command(&home, &["--quiet"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        (kills, wait) = (kills + 1, wait + 7);
    }
    assert!(kills > 2, "{kills}");
    checked(&home);
    let copies = points_of(&home, "off", "off.key");
    assert_eq!(copies.len(), 5, "none twice");
    for (copy, disk) in copies.iter().zip(&states_of_disk) {
        assert!(std::fs::read(restored(&home, copy["id"].as_str().unwrap(), "back.raw")).unwrap() == *disk);
    }
}

#[test]
fn a_copy_that_was_forgotten_comes_back_unless_only_newer_ones_are_wanted() {
    let home = two();
    for round in 0..3 {
        home.disk("a.raw", &content(96 + round, MIB));
        home.backup(["a.raw"]);
    }
    let first = copy(&home, &[]);
    let oldest = first["points"][0]["copy"].as_str().unwrap();
    home.ok(["forget", oldest, "--repo", "off", "--key-file", "off.key"]);
    home.backup(["a.raw"]);
    assert_eq!(states(&copy(&home, &["--newer-only", "--dry-run"])), ["left out", "present", "present", "missing"]);
    assert_eq!(states(&copy(&home, &["--newer-only"])), ["left out", "present", "present", "copied"]);
    assert_eq!(states(&copy(&home, &[])), ["copied", "present", "present", "present"]);
    checked(&home);
}

#[test]
fn a_mirror_is_compared_and_what_differs_is_named() {
    let home = Home::new();
    home.disk("a.raw", &content(95, 3 * MIB));
    home.backup(["a.raw"]);
    assert!(Command::new("cp").args(["-a", &home.text("repo"), &home.text("clone")]).status().unwrap().success());
    let same = home.json(["check", "--against", "clone"]);
    assert_eq!((&same["clean"], &same["missing_here"]), (&true.into(), &Value::Array(vec![])));
    home.backup(["a.raw"]);
    let output = home.command(["check", "--against", "clone", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let behind: Value = serde_json::from_slice(&output.stdout).unwrap();
    let missing = behind["missing_there"].as_array().unwrap();
    assert!(missing.iter().any(|name| name.as_str().unwrap().starts_with("points/")), "{behind}");
    assert_eq!(behind["missing_here"].as_array().unwrap().len(), 0);
    let shown = home.command(["check", "--against", "clone"]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("NOT THE SAME"));
    // A clone takes what it lacks.
    let report = home.json(["copy", "--from", "repo", "--to", "clone"]);
    assert_eq!(states(&report), ["present", "copied"]);
    home.ok(["init", "other", "--no-recovery"]);
    home.fails(16, ["check", "--against", "other"]);
    home.fails(12, ["check", "--against", "nowhere"]);
}
