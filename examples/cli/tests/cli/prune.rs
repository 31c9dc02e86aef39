//! Pruning from outside: what it says, what it frees, and that nothing else goes.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::kit::{Home, MIB, content};

fn stored(home: &Home) -> u64 {
    home.json(["stats"])["total_bytes"].as_u64().unwrap()
}

#[test]
fn what_was_forgotten_is_freed_and_the_rest_restores() {
    let home = Home::new();
    let (gone, kept) = (content(1, 6 * MIB), content(2, 3 * MIB));
    home.disk("a.raw", &gone);
    let first = home.backup(["a.raw"])["point"]["id"].as_str().unwrap().to_owned();
    home.disk("b.raw", &kept);
    home.json(["backup", "b.raw", "--workload", "b"]);
    let before = stored(&home);
    assert_eq!(home.json(["prune"])["deleted_packs"], 0);
    home.ok(["forget", &first]);
    let plan = home.json(["prune", "--dry-run"]);
    assert!(plan["unused_bytes"].as_u64().unwrap() > MIB as u64, "{plan}");
    assert_eq!(plan["deleted_packs"], 0);
    assert!(home.ok(["prune", "-n"]).contains("unused: would be deleted"));
    let done = home.json(["prune"]);
    assert!(done["reclaimed_bytes"].as_u64().unwrap() > MIB as u64, "{done}");
    assert_eq!(done["removed_points"], 1);
    assert!(stored(&home) < before - MIB as u64);
    assert_eq!(home.restored("latest", "disk0"), kept);
    home.check();
    assert!(home.ok(["prune"]).contains("0 packs deleted"));
}

#[test]
fn an_empty_repository_is_pruned_and_nonsense_is_refused() {
    let home = Home::new();
    assert_eq!(home.json(["prune"])["condemned_packs"], 0);
    for bad in [["--max-unused", "101%"], ["--stale-after", "soon"], ["--max-repack-bytes", "lots"]] {
        home.fails(2, ["prune", bad[0], bad[1]]);
    }
}

/// Starts a backup of a pipe that stays open, and waits until it has a session.
fn hanging_backup(home: &Home) -> Child {
    let mut command: Command = home.command(["backup", "-", "--workload", "slow"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let sessions = home.path("repo/sessions");
    let end = Instant::now() + Duration::from_secs(60);
    let opened = |sessions: &std::path::Path| {
        fs::read_dir(sessions).is_ok_and(|mut entries| {
            entries.any(|entry| {
                let folder = entry.unwrap().path();
                folder.join("open").exists() && !folder.join("outcome").exists()
            })
        })
    };
    while !opened(&sessions) {
        assert!(Instant::now() < end, "the backup never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn a_running_backup_is_waited_for_and_a_dead_one_ended_when_told() {
    let home = Home::new();
    home.disk("a.raw", &content(1, 3 * MIB));
    let first = home.backup(["a.raw"])["point"]["id"].as_str().unwrap().to_owned();
    home.ok(["forget", &first]);
    let mut child = hanging_backup(&home);
    let report = home.json(["prune"]);
    assert_eq!(report["waiting_for"][0]["workload"], "slow", "{report}");
    assert_eq!(report["deleted_packs"], 0);
    assert!(home.ok(["prune"]).contains("slow"));
    // The machine of the backup is gone for good.
    child.kill().unwrap();
    child.wait().unwrap();
    let report = home.json(["prune", "--stale-after", "0"]);
    assert_eq!(report["fenced_sessions"].as_array().unwrap().len(), 1, "{report}");
    assert!(report["deleted_packs"].as_u64().unwrap() > 0, "{report}");
    home.check();
}

#[test]
fn a_backup_that_is_fenced_while_it_runs_fails_with_a_conflict() {
    let home = Home::new();
    home.disk("a.raw", &content(1, MIB));
    let first = home.backup(["a.raw"])["point"]["id"].as_str().unwrap().to_owned();
    home.ok(["forget", &first]);
    let mut child = hanging_backup(&home);
    home.json(["prune", "--stale-after", "0"]);
    drop(child.stdin.take());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(16));
    assert!(home.points().is_empty());
    home.check();
}
