//! Ways in.

use std::{
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use crate::kit::{Home, failed, succeeded};

#[test]
fn all_sources_of_a_passphrase_open_the_same_repository() {
    let home = Home::empty();
    std::fs::write(home.path("pass"), "correct horse\n").unwrap();
    let made = home.json(["init", "--passphrase-file", "pass"]);
    home.json(["points", "--passphrase-file", "pass"]);
    home.json(["points", "--passphrase-command", "printf 'correct horse\\r\\n'"]);
    succeeded(home.command(["points"]).env("BACKSTAY_PASSPHRASE", "correct horse").output().unwrap());
    let recovery = made["recovery_key"].as_str().unwrap();
    succeeded(home.command(["points"]).env("BACKSTAY_PASSPHRASE", recovery.to_lowercase()).output().unwrap());
    std::fs::write(home.path("recovery"), recovery).unwrap();
    home.json(["points", "--key-file", "recovery"]);
    // An option beats a variable.
    let both = home.command(["points", "--passphrase-file", "pass"]).env("BACKSTAY_PASSPHRASE", "wrong").output();
    succeeded(both.unwrap());
}

#[test]
fn a_wrong_or_empty_or_missing_passphrase_is_refused_and_says_why() {
    let home = Home::empty();
    std::fs::write(home.path("pass"), "correct horse").unwrap();
    std::fs::write(home.path("empty"), "\n").unwrap();
    home.ok(["init", "--passphrase-file", "pass", "--no-recovery"]);
    let wrong = home.command(["points", "--json"]).env("BACKSTAY_PASSPHRASE", "correct horse ").output().unwrap();
    assert_eq!(failed(14, wrong)["message"], "Wrong passphrase: it opens no key slot of this repository");
    let empty = home.command(["points", "--json"]).env("BACKSTAY_PASSPHRASE", "").output().unwrap();
    assert!(failed(11, empty)["message"].as_str().unwrap().contains("empty"));
    home.fails(11, ["points", "--passphrase-file", "empty"]);
    home.fails(11, ["init", "other", "--passphrase-file", "empty"]);
    home.fails(11, ["points", "--passphrase-command", "exit 3"]);
    home.fails(11, ["points", "--passphrase-command", "true"]);
    home.fails(12, ["points", "--passphrase-file", "missing"]);
    home.fails(11, ["points", "--passphrase-file", "pass", "--passphrase-command", "true"]);
    assert!(home.fails(11, ["points"])["message"].as_str().unwrap().contains("--passphrase-file"));
    assert!(!home.path("other").exists());
}

#[test]
fn a_key_file_is_its_owners_alone_and_never_overwritten() {
    let home = Home::empty();
    let made = home.json(["init", "--key-file", "key", "--no-recovery"]);
    assert!(made["recovery_key"].is_null());
    assert_eq!(made["key_file"], "key");
    assert_eq!(std::fs::metadata(home.path("key")).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(home.path("key")).unwrap();
    home.json(["points"]);
    home.fails(13, ["init", "other", "--key-file", "key"]);
    assert_eq!(std::fs::read(home.path("key")).unwrap(), before);
    assert!(!home.path("other").exists());
    // The variable names a key that may be used again.
    home.json(["init", "with-the-same-key"]);
    home.json(["points", "--repo", "with-the-same-key", "--key-file", "key"]);
    // A key file for a repository that was not made opens nothing.
    home.fails(13, ["init", "repo", "--key-file", "second"]);
    assert!(!home.path("second").exists());
    std::fs::write(home.path("bad"), "BACKSTAY-NO").unwrap();
    home.fails(11, ["points", "--key-file", "bad"]);
    home.ok(["init", "stranger", "--key-file", "third"]);
    home.fails(14, ["points", "--key-file", "third"]);
}

#[test]
fn a_repository_may_have_a_key_file_and_a_passphrase() {
    let home = Home::empty();
    std::fs::write(home.path("pass"), "correct horse").unwrap();
    home.ok(["init", "--key-file", "key", "--passphrase-file", "pass"]);
    home.json(["points", "--key-file", "key"]);
    home.json(["points", "--passphrase-file", "pass"]);
}

#[test]
fn the_recovery_key_is_shown_on_standard_error_and_nowhere_else() {
    let home = Home::empty();
    let output = home.command(["init", "--key-file", "key"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("BACKSTAY-"));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("BACKSTAY-"));
}

/// Runs it on a terminal of its own and answers every prompt in turn. `None` where there is no `script`.
fn on_a_terminal(home: &Home, command: &str, answers: &[&str]) -> Option<(i32, String)> {
    let line = format!("exec {} {command}", env!("CARGO_BIN_EXE_backstay"));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir(home.path("."));
    script.env_remove("BACKSTAY_PASSPHRASE").env_remove("BACKSTAY_KEY_FILE");
    let Ok(mut child) = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        println!("skipped: script is not installed");
        return None;
    };
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut seen, mut answers, mut from) = (Vec::new(), answers.iter(), 0);
    let mut byte = [0];
    while output.read(&mut byte).is_ok_and(|read| read == 1) {
        seen.push(byte[0]);
        if seen[from..].ends_with(b": ") {
            from = seen.len();
            // What is typed before the echo is off would be seen.
            std::thread::sleep(std::time::Duration::from_millis(200));
            if let Some(answer) = answers.next() {
                input.write_all(answer.as_bytes()).unwrap();
            }
        }
    }
    Some((child.wait().unwrap().code().unwrap(), String::from_utf8_lossy(&seen).into_owned()))
}

#[test]
fn a_passphrase_is_asked_for_without_echo_and_twice_when_it_is_new() {
    let home = Home::empty();
    let init = "init repo --no-recovery";
    let Some((code, _)) = on_a_terminal(&home, init, &["correct horse\n", "correct house\n"]) else { return };
    assert_eq!(code, 11);
    assert!(!home.path("repo").exists());
    let (code, seen) = on_a_terminal(&home, init, &["correct horse\n", "correct horse\n"]).unwrap();
    assert_eq!(code, 0, "{seen}");
    assert!(!seen.contains("horse"), "{seen}");
    assert_eq!(on_a_terminal(&home, "points --repo repo", &["correct horse\n"]).unwrap().0, 0);
    assert_eq!(on_a_terminal(&home, "points --repo repo", &["wrong horse\n"]).unwrap().0, 14);
    assert_eq!(on_a_terminal(&home, "points --repo repo", &["\n"]).unwrap().0, 11);
    // ^C
    assert_eq!(on_a_terminal(&home, "points --repo repo", &["\u{3}"]).unwrap().0, 130);
}
