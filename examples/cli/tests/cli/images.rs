//! Images of both formats, several disks, backing files, streams.

use crate::kit::{Home, MIB, content, feed, same_disk, succeeded, tool};

#[test]
fn raw_and_qcow2_images_come_back_as_either_format() {
    let home = Home::new();
    // No multiple of a cluster.
    let disk = content(10, 9 * MIB + 512 * 3);
    let raw = home.disk("a.raw", &disk);
    if !tool("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", "-c", &home.text("a.raw"), &home.text("a.qcow2")]) {
        return;
    }
    for source in ["a.raw", "a.qcow2"] {
        home.json(["backup", source, "--workload", source]);
        let from = format!("{source}@latest");
        for (target, format) in [("x.raw", "raw"), ("x.qcow2", "qcow2")] {
            home.json(["restore", &from, "--to", target, "--format", format, "--verify", "--overwrite"]);
            same_disk(&raw, &home.path(target));
        }
        assert!(tool("qemu-img", ["check", &home.text("x.qcow2")]));
        assert_eq!(std::fs::read(home.path("x.raw")).unwrap(), disk);
        assert!(home.restored(&from, "disk0") == disk);
    }
    // The name decides when nobody says.
    home.json(["restore", "a.raw@latest", "--to", "named.qcow2"]);
    assert_eq!(&std::fs::read(home.path("named.qcow2")).unwrap()[..4], b"QFI\xfb");
    // The second workload is the same disk.
    let points = home.points();
    assert!(points[1]["stored_bytes"].as_u64() < Some(points[0]["stored_bytes"].as_u64().unwrap() / 10));
}

#[test]
fn a_format_is_never_guessed_from_what_a_guest_can_write() {
    let home = Home::new();
    let mut disk = content(11, MIB);
    home.disk("plain", &disk);
    disk[..4].copy_from_slice(b"QFI\xfb");
    home.disk("evil.raw", &disk);
    home.disk("evil", &disk);
    home.disk("not.qcow2", &content(11, MIB));
    for unclear in ["evil.raw", "evil", "plain", "not.qcow2"] {
        let error = home.fails(11, ["backup", unclear, "--workload", "w"]);
        assert!(error["message"].as_str().unwrap().contains("--format"), "{unclear}");
    }
    home.backup(["evil.raw", "--format", "raw"]);
    assert!(home.restored("latest", "disk0") == disk);
}

#[test]
fn several_disks_make_one_point_and_come_back_together() {
    let home = Home::new();
    let disks = [content(12, 2 * MIB), content(13, 3 * MIB), content(14, MIB)];
    home.disk("a.raw", &disks[0]);
    home.disk("b.img", &disks[1]);
    home.disk("c.raw", &disks[2]);
    let made = home.backup(["a.raw", "b.img", "--disk", "data=c.raw"]);
    let ids: Vec<_> = made["disks"].as_array().unwrap().iter().map(|disk| disk["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["disk0", "disk1", "data"]);

    let all = home.json(["restore", "latest", "--to", "all", "--verify"]);
    assert_eq!(all["restored"].as_array().unwrap().len(), 3);
    for (id, disk) in ids.iter().zip(&disks) {
        assert!(std::fs::read(home.path(format!("all/{id}.raw"))).unwrap() == *disk, "{id}");
        assert!(home.restored("latest", id) == *disk, "{id}");
    }
    home.fails(13, ["restore", "latest", "--to", "all"]);
    home.json(["restore", "latest", "--to", "all", "--overwrite", "--format", "qcow2"]);
    same_disk(&home.path("c.raw"), &home.path("all/data.qcow2"));
    for unclear in [&["--to", "-"][..], &["--to", "x", "--range", "0:1"], &["--to", "a.raw"]] {
        let error = failed_without_json(&home, unclear);
        assert!(error.contains("--disk"), "{error}");
    }
    assert_eq!(std::fs::read_dir(home.path("all")).unwrap().count(), 6);
}

fn failed_without_json(home: &Home, args: &[&str]) -> String {
    let output = home.command(["restore", "latest"]).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(11));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn backing_files_are_followed_in_the_image_s_own_directory_alone() {
    let home = Home::new();
    std::fs::create_dir(home.path("vm")).unwrap();
    std::fs::create_dir(home.path("base")).unwrap();
    let disk = content(15, 2 * MIB);
    home.disk("vm/near.raw", &disk);
    home.disk("base/far.raw", &disk);
    let create = |backing: &str, image: &str| {
        tool("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, &home.text(image)])
    };
    if !create(&home.text("vm/near.raw"), "vm/near.qcow2") {
        return;
    }
    create(&home.text("base/far.raw"), "vm/far.qcow2");
    std::os::unix::fs::symlink(home.path("base/far.raw"), home.path("vm/link.raw")).unwrap();
    create(&home.text("vm/link.raw"), "vm/linked.qcow2");
    std::os::unix::fs::symlink(home.path("vm/near.qcow2"), home.path("elsewhere.qcow2")).unwrap();

    home.backup(["vm/near.qcow2"]);
    assert!(home.restored("latest", "disk0") == disk);
    home.backup(["elsewhere.qcow2"]);
    home.fails(14, ["backup", "vm/near.qcow2", "--workload", "w", "--no-backing"]);
    for outside in ["vm/far.qcow2", "vm/linked.qcow2"] {
        let error = home.fails(14, ["backup", outside, "--workload", "w"]);
        assert!(error["message"].as_str().unwrap().contains("--allow-backing"));
        home.backup([outside, "--allow-backing", "base"]);
        assert!(home.restored("latest", "disk0") == disk);
    }
}

#[test]
fn a_stream_goes_in_by_standard_input_and_out_by_standard_output() {
    let home = Home::new();
    let dump = content(16, 5 * MIB + 7);
    let args = ["backup", "-", "--workload", "shop", "--stream-name", "shop.sql", "--json"];
    let made: serde_json::Value = serde_json::from_str(&succeeded(feed(home.command(args), &dump))).unwrap();
    assert_eq!(made["point"]["method"], "stream");
    assert_eq!(made["point"]["kind"], "stream");
    assert_eq!(made["point"]["streams"][0]["size"], dump.len());
    assert_eq!(made["disks"], serde_json::json!([]));
    let out = home.command(["restore", "shop@latest", "--to", "-"]).output().unwrap();
    assert!(out.status.success() && out.stdout == dump);
    home.json(["restore", "latest", "--stream", "shop.sql", "--to", "dump", "--verify"]);
    assert!(std::fs::read(home.path("dump")).unwrap() == dump);
    home.fails(13, ["restore", "latest", "--to", "dump"]);
    home.fails(11, ["restore", "latest", "--to", "other", "--range", "0:1"]);
    // The same again is stored once, and nothing at all is a stream, too.
    let again: serde_json::Value = serde_json::from_str(&succeeded(feed(home.command(args), &dump))).unwrap();
    assert!(again["point"]["stored_bytes"].as_u64() < Some(made["point"]["stored_bytes"].as_u64().unwrap() / 10));
    succeeded(feed(home.command(["backup", "-", "--workload", "empty"]), b""));
    assert!(home.command(["restore", "empty@latest", "--to", "-"]).output().unwrap().stdout.is_empty());
    home.check();
}
