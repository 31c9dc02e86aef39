//! A repository on an SSH server, which a script of the test bed starts, or the test says that it is skipped.

use std::{collections::HashMap, fs, net::TcpListener, path::Path, process::Command};

use crate::kit::{Home, MIB, content, failed, succeeded};

struct Server {
    run: tempfile::TempDir,
    port: String,
    settings: HashMap<String, String>,
}

impl Server {
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let mut server = Self { run: tempfile::tempdir().unwrap(), port, settings: HashMap::new() };
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
                println!("skipped: no SSH server can be had");
                None
            }
        }
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/testbed/sftp.sh"));
        command.arg(verb).env("BACKSTAY_TESTBED_RUN", self.run.path()).env("BACKSTAY_TESTBED_PORT", &self.port);
        command
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.settings["FOLDER"])
    }

    fn command(&self, home: &Home, args: &[&str]) -> Command {
        let mut command = home.command(args);
        let url = format!("sftp://{}@127.0.0.1:{}{}", self.settings["USER"], self.port, self.file("data/some/where"));
        command.env("BACKSTAY_REPOSITORY", url).env("HOME", home.path("")).env_remove("SSH_AUTH_SOCK");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.script("stop").status().unwrap();
    }
}

#[test]
fn a_repository_may_lie_on_an_ssh_server() {
    let Some(server) = Server::start() else { return };
    let home = Home::empty();
    let identity = server.file("client");
    // Nobody knows the server, and nobody can be asked.
    let unknown = failed(14, server.command(&home, &["points", "--json", "--identity", &identity]).output().unwrap());
    let told = unknown["message"].as_str().unwrap().to_owned();
    let fingerprint = told.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap().trim_end_matches('.');
    let init = ["init", "--key-file", "key", "--no-recovery", "--pack-size", "1M", "--identity", &identity];
    let mut accepting = server.command(&home, &init);
    succeeded(accepting.args(["--accept-host-key", fingerprint]).output().unwrap());

    fs::create_dir(home.path(".ssh")).unwrap();
    fs::copy(server.file("known_hosts"), home.path(".ssh/known_hosts")).unwrap();
    fs::copy(&identity, home.path(".ssh/id_ed25519")).unwrap();
    // The usual places are enough from here on.
    let run = |args: &[&str]| succeeded(server.command(&home, args).output().unwrap());
    let disk = content(61, 8 * MIB);
    home.disk("a.raw", &disk);
    run(&["backup", "a.raw", "--workload", "w"]);
    run(&["check", "--read", "all"]);
    run(&["restore", "latest", "--to", "b.raw", "--verify"]);
    assert!(fs::read(home.path("b.raw")).unwrap() == disk);

    let other = format!("[127.0.0.1]:{} {}", server.port, fs::read_to_string(server.file("authority.pub")).unwrap());
    fs::write(home.path(".ssh/known_hosts"), other).unwrap();
    let mut changed = server.command(&home, &["points", "--json", "--accept-host-key", fingerprint]);
    let changed = failed(18, changed.output().unwrap());
    assert!(changed["message"].as_str().unwrap().contains("CHANGED"), "{changed}");
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    let home = Home::empty();
    let error = home.fails(11, ["points", "--repo", "sftp://me:s3cret@127.0.0.1/x"]);
    assert!(!error.to_string().contains("s3cret"), "{error}");
}
