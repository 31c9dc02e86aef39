//! Every command, what it says, and how it refuses.

use serde_json::Value;

use crate::kit::{Home, MIB, content};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn every_command_answers_with_one_json_document() {
    let home = Home::empty();
    let made = home.json(["init", "repo", "--key-file", &home.text("key")]);
    assert!(made["recovery_key"].as_str().unwrap().starts_with("BACKSTAY-"));
    assert_eq!(made["id"].as_str().unwrap().len(), 32);
    let disk = content(1, 4 * MIB + 4096);
    home.disk("a.raw", &disk);
    let first = home.backup(["a.raw", "--label", "why=test", "--label", "who=me=you"]);
    let point = &first["point"];
    assert_eq!(point["labels"]["who"], "me=you");
    assert_eq!(first["disks"][0]["method"], "full");
    assert!(first["elapsed_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(first["warnings"], Value::Array(vec![]));
    let id = point["id"].as_str().unwrap();

    let points = home.json(["points", "--workload", "w"]);
    assert_eq!(points.as_array().unwrap().len(), 1);
    assert_eq!(&points[0], point);
    let time = point["time"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-11-20T10:00:00.123456789Z".len(), "{time}");
    assert_eq!(point["disks"][0]["size"], disk.len());
    assert_eq!(point["read_bytes"], first["disks"][0]["read_bytes"]);
    assert!(point["stored_bytes"].as_u64().unwrap() > 0);
    assert_eq!(home.json(["points", "--workload", "other"]), Value::Array(vec![]));
    assert_eq!(&home.json(["show", "w@latest"]), point);

    home.disk("a.raw", &[&disk[..MIB], &content(9, MIB), &disk[2 * MIB..]].concat());
    home.backup(["a.raw"]);
    let diff = home.json(["diff", &id[..8], "latest"]);
    assert_eq!(diff["from"], id);
    let changed: u64 =
        diff["disks"][0]["ranges"].as_array().unwrap().iter().map(|range| range[1].as_u64().unwrap()).sum();
    assert_eq!(changed, diff["disks"][0]["changed_bytes"].as_u64().unwrap());
    assert!((1..3 * MIB as u64).contains(&changed), "{changed}");

    let restored = home.json(["restore", id, "--to", "b.raw", "--verify"]);
    assert_eq!((&restored["verified"], &restored["restored"][0]["bytes"]), (&true.into(), &disk.len().into()));
    assert_eq!(std::fs::read(home.path("b.raw")).unwrap(), disk);
    let stats = home.json(["stats"]);
    assert_eq!((&stats["points"], &stats["workloads"]), (&2.into(), &1.into()));
    let report = home.check();
    assert_eq!(report["packs"], report["packs_read"]);
    assert_eq!(home.json(["check"])["packs_read"], 0);
    assert!(keys(&home.json(["check", "--read", "5%"])).contains(&"findings"));
}

#[test]
fn without_json_people_get_tables_and_quiet_means_silence() {
    let home = Home::new();
    home.disk("a.raw", &content(2, MIB));
    assert_eq!(home.ok(["backup", "a.raw", "--workload", "w", "--quiet"]), "");
    assert!(home.ok(["points"]).contains("METHOD"));
    assert!(home.ok(["points", "--quiet"]).contains("full"));
    assert!(home.ok(["show", "latest"]).contains("workload"));
    assert!(home.ok(["stats"]).contains("1 of 1 workloads"));
    assert!(home.ok(["check", "--read", "all"]).contains("all is well"));
    assert!(home.ok(["backup", "a.raw", "--workload", "w"]).contains("compared"));
    assert!(home.ok(["diff", "w@latest", "latest"]).contains("disk0: 0 B differ"));
    assert!(home.ok(["restore", "latest", "--to", "b.raw"]).contains("to b.raw"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.ok(["completions", shell]).contains("backstay"));
    }
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    let home = Home::new();
    for bad in [
        &["frobnicate"][..],
        &["backup", "a.raw"],
        &["backup", "--workload", "w"],
        &["backup", "a.raw", "--workload", ""],
        &["backup", "a.raw", "--workload", "w", "--compression", "20"],
        &["backup", "a.raw", "--workload", "w", "--format", "vmdk"],
        &["backup", "a.raw", "--workload", "w", "--label", "novalue"],
        &["backup", "--disk", "noid", "--workload", "w"],
        &["backup", "a.raw", "--workload", "w", "--no-backing", "--allow-backing", "/"],
        &["backup", "a.raw", "--workload", "w", "--passphrase", "secret"],
        &["restore", "latest"],
        &["restore", "?", "--to", "x"],
        &["restore", "latest", "--to", "x", "--range", "5"],
        &["check", "--read", "0%"],
        &["check", "--read", "101%"],
    ] {
        assert_eq!(home.fails(2, bad)["kind"], "Usage", "{bad:?}");
    }
}

#[test]
fn wishes_that_cannot_be_granted_are_refused_before_anything_is_done() {
    let home = Home::new();
    home.disk("a.raw", &content(3, MIB));
    home.disk("disk", &content(3, MIB));
    home.backup(["a.raw"]);
    for bad in [
        &["backup", "disk", "--workload", "w"][..],
        &["backup", "a.raw", "--disk", "disk0=a.raw", "--workload", "w"],
        &["backup", "a.raw", "disk", "--format", "raw", "--ranges", "r.json", "--workload", "w"],
        &["backup", "-", "a.raw", "--workload", "w"],
        &["backup", "-", "--format", "raw", "--workload", "w"],
        &["restore", "latest", "--to", "-"],
        &["restore", "latest", "--to", "x", "--range", "1M:1"],
        &["init", "elsewhere", "--pack-size", "1"],
        &["stats", "--repo", "ftp://host/x"],
        &["stats", "--repo", "memory:"],
        &["stats", "--repo", "s3://bucket/x", "--endpoint", "http://192.0.2.1"],
    ] {
        assert_eq!(home.fails(11, bad)["kind"], "InvalidInput", "{bad:?}");
    }
    assert_eq!(home.points().len(), 1);
    assert!(!home.path("x").exists());
}

#[test]
fn what_is_not_there_is_named() {
    let home = Home::new();
    home.disk("a.raw", &content(4, MIB));
    assert!(home.fails(12, ["restore", "latest", "--to", "x"])["message"].as_str().unwrap().contains("backup"));
    home.backup(["a.raw"]);
    let missing = home.fails(12, ["points", "--repo", "nowhere"]);
    assert!(missing["message"].as_str().unwrap().contains("init"));
    assert!(missing["context"]["repository"].as_str().unwrap().ends_with("nowhere"));
    assert!(!home.path("nowhere").exists());
    let no_source = home.fails(12, ["backup", "b.raw", "--workload", "w"]);
    assert!(no_source["context"]["path"].as_str().unwrap().ends_with("b.raw"));
    home.fails(12, ["show", "ffffffff"]);
    home.fails(12, ["show", "other@latest"]);
    assert_eq!(home.fails(12, ["restore", "latest", "--disk", "vda", "--to", "x"])["context"]["disks"], "disk0");
    home.fails(12, ["restore", "latest", "--stream", "s", "--to", "x"]);
    assert!(home.fails(11, ["points", "--repo", ""])["message"].is_string());
}

#[test]
fn a_damaged_pack_is_a_finding_with_an_exit_code_of_its_own() {
    let home = Home::new();
    home.disk("a.raw", &content(5, 4 * MIB));
    home.backup(["a.raw"]);
    let packs = home.path("repo/packs");
    let folder = std::fs::read_dir(packs).unwrap().next().unwrap().unwrap().path();
    let pack =
        if folder.is_dir() { std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path() } else { folder };
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let output = home.command(["check", "--read", "all", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["clean"], false);
    assert_eq!(report["findings"][0]["kind"], "Integrity");
    assert_eq!(home.fails(18, ["restore", "latest", "--to", "x.raw"])["kind"], "Integrity");
    assert!(!home.path("x.raw").exists());
}
