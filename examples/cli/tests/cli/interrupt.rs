//! ^C, and being told to stop.

use std::{
    io::{Read, Write},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::kit::{Home, MIB, content, feed, succeeded};

/// Sends the signal; it must exit within a second. Gives the exit code.
fn stop(child: &mut Child, signal: Signal) -> Option<i32> {
    kill_process(Pid::from_child(child), signal).unwrap();
    let sent = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(sent.elapsed() < Duration::from_secs(1), "it did not stop within a second");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_backup_that_is_interrupted_stops_within_a_second_and_leaves_the_repository_clean() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let home = Home::new();
        let args = ["backup", "-", "--workload", "w", "--json"];
        let mut child =
            home.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // More than is held in memory, so that it is in the middle of storing; and then it waits for more.
        input.write_all(&content(40, 32 * MIB)).unwrap();
        assert_eq!(stop(&mut child, signal), Some(code));
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        let error: serde_json::Value = serde_json::from_str(&error).unwrap();
        assert_eq!(error["error"]["kind"], "Cancelled");
        assert!(home.points().is_empty());
        // It said in the repository that nothing comes of it.
        assert_eq!(home.check()["unsettled_sessions"], 0);
        succeeded(feed(home.command(args), &content(40, MIB)));
        assert_eq!(home.points().len(), 1);
    }
}

#[test]
fn an_image_backup_is_interrupted_as_well_as_a_stream() {
    let home = Home::new();
    home.disk("a.raw", &content(41, 64 * MIB));
    let started = Instant::now();
    home.backup(["a.raw"]);
    let whole = started.elapsed();
    let mut stopped = 0;
    for part in 1..10 {
        home.disk("a.raw", &content(41 + u64::from(part), 64 * MIB));
        let mut child = home.command(["backup", "a.raw", "--workload", "w", "--quiet"]).spawn().unwrap();
        std::thread::sleep(whole * part / 12);
        let code = stop(&mut child, Signal::INT);
        assert!(matches!(code, Some(0 | 130)), "{code:?}");
        stopped += usize::from(code == Some(130));
    }
    assert!(stopped >= 3, "{stopped}");
    home.check();
    let last = content(99, 64 * MIB);
    home.disk("a.raw", &last);
    home.backup(["a.raw"]);
    assert!(home.restored("latest", "disk0") == last);
}

#[test]
fn a_restore_into_a_pipe_that_nobody_reads_is_interrupted() {
    let home = Home::new();
    home.disk("a.raw", &content(42, 16 * MIB));
    home.backup(["a.raw"]);
    let mut child = home.command(["restore", "latest", "--to", "-"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(stop(&mut child, Signal::INT), Some(130));
}

#[test]
fn a_reader_that_goes_away_is_no_disaster() {
    let home = Home::new();
    home.disk("a.raw", &content(43, 16 * MIB));
    home.backup(["a.raw"]);
    let mut child = home
        .command(["restore", "latest", "--to", "-", "--json"])
        .arg("--quiet")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(11), "--json and `-` exclude each other");
    let mut child =
        home.command(["restore", "latest", "--to", "-"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(17));
}
