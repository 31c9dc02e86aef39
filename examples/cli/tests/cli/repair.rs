//! Damage as it happens to files, and what the program makes of it.

use std::{fs, os::unix::fs::FileExt, path::PathBuf};

use crate::kit::{Home, MIB, content, failed};

/// Files of a folder of the repository, in the order of their names.
fn files(home: &Home, folder: &str) -> Vec<PathBuf> {
    let mut ahead = vec![home.path("repo").join(folder)];
    let mut files = Vec::new();
    while let Some(path) = ahead.pop() {
        for entry in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { ahead.push(entry) } else { files.push(entry) }
        }
    }
    files.sort();
    files
}

fn flip(path: &PathBuf, at: u64) {
    let mut permissions = fs::metadata(path).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a test's own file")]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn code<'a>(home: &Home, args: impl IntoIterator<Item = &'a str>) -> (i32, serde_json::Value) {
    let output = home.command(args).arg("--json").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let document =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), document)
}

#[test]
fn a_flipped_bit_is_found_without_a_key_repaired_named_zeroed_and_healed() {
    let home = Home::new();
    let mut disk: Vec<u8> = content(7, 12 * MIB).iter().map(|byte| byte | 1).collect();
    home.disk("a.raw", &disk);
    home.backup(["a.raw"]);
    let pack = files(&home, "packs")[1].clone();
    flip(&pack, 3000);

    // Nothing but the place is needed.
    let scrub = home.command(["scrub", "--json"]).env_remove("BACKSTAY_KEY_FILE").output().unwrap();
    assert_eq!(scrub.status.code(), Some(3), "{}", String::from_utf8_lossy(&scrub.stderr));
    let report: serde_json::Value = serde_json::from_slice(&scrub.stdout).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(report["findings"].to_string().contains(name), "{report}");
    failed(18, home.command(["restore", "latest", "--to", "b.raw", "--json"]).output().unwrap());

    // A plan first.
    let before = files(&home, "");
    let (exit, plan) = code(&home, ["repair", "packs", "--pack", name]);
    assert_eq!((exit, plan["dry_run"].as_bool()), (3, Some(true)), "{plan}");
    assert_eq!(files(&home, ""), before);
    let (exit, done) = code(&home, ["repair", "packs", "--yes"]);
    assert_eq!((exit, done["dry_run"].as_bool()), (0, Some(false)), "{done}");
    assert_eq!(done["damaged"][0]["pack"], name);
    let lost = done["lost"][0]["disks"][0]["ranges"].as_array().unwrap();
    let [offset, bytes] = [0, 1].map(|at| lost[0][at].as_u64().unwrap() as usize);
    assert!(lost.len() == 1 && bytes <= 96 << 10, "{done}");

    // Refused, unless zeros are asked for; all else is there.
    let error = failed(18, home.command(["restore", "latest", "--to", "b.raw", "--json"]).output().unwrap());
    assert!(error["context"]["lost"].as_str().unwrap().contains(&format!("{offset}..{}", offset + bytes)), "{error}");
    assert!(!home.path("b.raw").exists());
    let output = home.command(["restore", "latest", "--to", "b.raw", "--lost", "zero", "--verify", "--json"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let restored: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(restored["restored"][0]["zeroed"], done["lost"][0]["disks"][0]["ranges"]);
    assert_eq!(restored["warnings"].as_array().unwrap().len(), 1, "{restored}");
    let mut expected = disk.clone();
    expected[offset..offset + bytes].fill(0);
    assert!(fs::read(home.path("b.raw")).unwrap() == expected);

    // The next backup brings it back, to the older point as well.
    disk[..4096].fill(0x77);
    let old = expected;
    home.disk("a.raw", &disk);
    let made = home.command(["backup", "--workload", "w", "a.raw", "--json"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(home.restored("latest", "disk0") == disk);
    let first = home.points()[0]["id"].as_str().unwrap().to_owned();
    let whole = home.restored(&first, "disk0");
    assert!(whole[..offset] == old[..offset] && whole[offset..offset + bytes] != old[offset..offset + bytes]);
    assert_eq!(code(&home, ["repair", "packs"]).1["needed"], false);
    home.check();
}

#[test]
fn index_and_points_are_repaired_when_their_files_are_gone() {
    let home = Home::new();
    let disk = content(8, 6 * MIB);
    home.disk("a.raw", &disk);
    home.backup(["a.raw"]);
    home.disk("a.raw", &content(9, 6 * MIB));
    home.backup(["a.raw"]);
    for file in files(&home, "index") {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(code(&home, ["repair", "index"]).0, 3);
    let (exit, done) = code(&home, ["repair", "index", "--yes"]);
    assert_eq!((exit, done["bad_segments"].as_array().unwrap().len()), (0, 2), "{done}");
    assert!(home.restored("latest", "disk0") == content(9, 6 * MIB));
    home.check();

    let newest = home.points()[1]["id"].as_str().unwrap().to_owned();
    fs::remove_file(home.path("repo").join("points").join(&newest)).unwrap();
    home.fails(18, ["points"]);
    let (exit, done) = code(&home, ["repair", "points", "--yes"]);
    assert_eq!((exit, &done["points"][0]["point"]), (0, &serde_json::json!(newest)), "{done}");
    assert_eq!(home.points().len(), 1);
    assert!(home.restored("latest", "disk0") == disk);
    home.check();
}

#[test]
fn twenty_checks_of_a_twentieth_find_the_damaged_pack() {
    let home = Home::new();
    home.disk("a.raw", &content(3, 24 * MIB));
    home.backup(["a.raw"]);
    let packs = files(&home, "packs");
    flip(&packs[packs.len() / 2], 5000);
    let found = (0..20).filter(|_| code(&home, ["check", "--read", "5%"]).0 == 3).count();
    assert!(found >= 1);
    let (exit, report) = code(&home, ["check", "--read-bytes", "1M"]);
    assert!(report["packs_read"].as_u64().unwrap() <= 2 && (exit == 0 || exit == 3), "{report}");
}
