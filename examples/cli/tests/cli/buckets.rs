//! Repositories in buckets. The servers are had by scripts of the test bed, or the tests say that they are skipped.

use std::{collections::HashMap, net::TcpListener, path::Path, process::Command};

use crate::kit::{Home, MIB, content, failed, succeeded};

struct Server {
    name: &'static str,
    run: tempfile::TempDir,
    port: String,
    settings: HashMap<String, String>,
}

impl Server {
    fn start(name: &'static str) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let mut server = Self { name, run: tempfile::tempdir().unwrap(), port, settings: HashMap::new() };
        let output = server.script("start").output();
        match output {
            Ok(output) if output.status.success() => {
                let text = String::from_utf8(output.stdout).unwrap();
                let pairs = text.lines().filter_map(|line| line.split_once('='));
                server.settings = pairs.map(|(name, value)| (name.into(), value.into())).collect();
                Some(server)
            }
            other => {
                let required = std::env::var_os("BACKSTAY_REQUIRE_SERVERS").is_some_and(|value| value == "1");
                assert!(!required, "a server is required: {other:?}");
                println!("skipped: no {name} server can be had");
                None
            }
        }
    }

    fn script(&self, verb: &str) -> Command {
        let mut command =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/testbed/{}.sh", self.name)));
        command.arg(verb).env("BACKSTAY_TESTBED_RUN", self.run.path()).env("BACKSTAY_TESTBED_PORT", &self.port);
        command
    }

    fn command(&self, home: &Home, args: &[&str]) -> Command {
        let setting = |name: &str| self.settings[name].clone();
        let variables = match self.name {
            "moto" => vec![
                ("BACKSTAY_REPOSITORY", format!("s3://{}/some/where", setting("BUCKET"))),
                ("AWS_ACCESS_KEY_ID", setting("ACCESS_KEY")),
                ("AWS_SECRET_ACCESS_KEY", setting("SECRET_KEY")),
                ("AWS_ENDPOINT_URL", setting("ENDPOINT")),
            ],
            "azurite" => vec![
                ("BACKSTAY_REPOSITORY", format!("az://{}/some/where", setting("CONTAINER"))),
                ("AZURE_STORAGE_ACCOUNT", setting("ACCOUNT")),
                ("AZURE_STORAGE_KEY", setting("ACCESS_KEY")),
                ("AZURE_STORAGE_ENDPOINT", setting("ENDPOINT")),
            ],
            _ => vec![
                ("BACKSTAY_REPOSITORY", format!("gs://{}/some/where", setting("BUCKET"))),
                ("GOOGLE_OAUTH_ACCESS_TOKEN", setting("TOKEN")),
            ],
        };
        let mut command = home.command(args);
        command.envs(variables);
        if self.name == "gcs" && !args.contains(&"--endpoint") {
            // Google's tools have no variable for it.
            command.args(["--endpoint", &setting("ENDPOINT")]);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.script("stop").status().unwrap();
    }
}

/// Makes a repository, backs up into it, checks it and restores from it, with limits and a cache.
fn holds_a_repository(server: &Server) {
    let home = Home::empty();
    let run = |args: &[&str]| succeeded(server.command(&home, args).output().unwrap());
    failed(12, server.command(&home, &["points", "--passphrase-command", "echo x", "--json"]).output().unwrap());
    run(&["init", "--key-file", "key", "--no-recovery", "--pack-size", "1M"]);
    let disk = content(60, 8 * MIB);
    home.disk("a.raw", &disk);
    run(&["backup", "a.raw", "--workload", "w", "--limit-upload", "1G", "--max-requests", "2"]);
    run(&["check", "--read", "all", "--cache", "cache"]);
    assert!(!home.path("cache").exists(), "a check reads the bucket");
    for target in ["b.raw", "c.raw"] {
        run(&["restore", "latest", "--to", target, "--verify", "--cache", "cache", "--limit-download", "1048576"]);
        assert!(std::fs::read(home.path(target)).unwrap() == disk);
    }
    assert!(home.path("cache").exists());
    // An option beats the variable, and nobody listens there.
    let mut away = server.command(&home, &["points", "--json", "--endpoint", "http://127.0.0.1:1"]);
    assert_eq!(failed(17, away.output().unwrap())["kind"], "Unavailable");
}

#[test]
fn a_repository_may_lie_in_a_bucket() {
    let Some(server) = Server::start("moto") else { return };
    holds_a_repository(&server);
}

#[test]
fn a_repository_may_lie_in_a_container_of_azure() {
    let Some(server) = Server::start("azurite") else { return };
    holds_a_repository(&server);
}

#[test]
fn a_repository_may_lie_in_a_bucket_of_google() {
    let Some(server) = Server::start("gcs") else { return };
    holds_a_repository(&server);
}

#[test]
fn points_are_copied_into_a_bucket_with_an_account_of_its_own_and_back() {
    let Some(server) = Server::start("moto") else { return };
    let home = Home::new();
    let bucket = format!("s3://{}/off/site", server.settings["BUCKET"]);
    let with_account = |prefix: &str, args: &[&str]| {
        let mut command = home.command(args);
        for (name, value) in
            [("ACCESS_KEY_ID", "ACCESS_KEY"), ("SECRET_ACCESS_KEY", "SECRET_KEY"), ("ENDPOINT_URL", "ENDPOINT")]
        {
            command.env(format!("{prefix}AWS_{name}"), &server.settings[value]);
        }
        command
    };
    let run = |prefix: &str, args: &[&str]| succeeded(with_account(prefix, args).output().unwrap());
    run("", &["init", &bucket, "--key-file", &home.text("s3.key"), "--no-recovery", "--pack-size", "1M"]);
    let mut disk = content(61, 8 * MIB);
    home.disk("a.raw", &disk);
    home.backup(["a.raw"]);
    disk[3 * MIB] ^= 1;
    home.disk("a.raw", &disk);
    home.backup(["a.raw"]);
    let to = ["copy", "--from", "repo", "--to", &bucket, "--to-key-file", "s3.key"];
    run("BACKSTAY_TO_", &to);
    // The account of the other side is nobody's.
    assert_ne!(with_account("BACKSTAY_FROM_", &to).output().unwrap().status.code(), Some(0));
    home.ok(["init", "back", "--key-file", &home.text("back.key"), "--no-recovery"]);
    run(
        "BACKSTAY_FROM_",
        &["copy", "--from", &bucket, "--from-key-file", "s3.key", "--to", "back", "--to-key-file", "back.key"],
    );
    let restore = ["restore", "w@latest", "--to", "b.raw", "--repo", "back", "--key-file", "back.key"];
    home.ok(restore);
    assert!(std::fs::read(home.path("b.raw")).unwrap() == disk);
    run("", &["check", "--read", "all", "--repo", &bucket, "--key-file", "s3.key"]);
}
