//! A real OpenSSH server, started and stopped by the script of the test bed.

use std::{
    collections::HashMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use backstay_storage::backend::sftp::{SftpBackend, SftpOptions, SftpPlace};

/// A server of our own; stopped when dropped.
pub struct Server {
    port: u16,
    run: tempfile::TempDir,
    settings: HashMap<String, String>,
}

/// A port that nobody has now. Somebody may take it before the server does, which then says that it did not come up.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts a server. `None`, with a word why, where it cannot be had; a panic where it must be.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// The same, with arguments for its SFTP part: `-P request,…` takes requests away.
    pub fn start_with(arguments: &str) -> Option<Self> {
        let mut server = Self { port: free_port(), run: tempfile::tempdir().unwrap(), settings: HashMap::new() };
        let trouble = match server.command("start").env("BACKSTAY_TESTBED_SFTP_ARGS", arguments).output() {
            Ok(output) if output.status.success() => {
                let text = String::from_utf8(output.stdout).unwrap();
                let pairs = text.lines().filter_map(|line| line.split_once('='));
                server.settings = pairs.map(|(name, value)| (name.into(), value.into())).collect();
                return Some(server);
            }
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        let required = std::env::var_os("BACKSTAY_REQUIRE_SERVERS").is_some_and(|value| value == "1");
        assert!(!required, "an SSH server is required and could not be had: {trouble}");
        eprintln!("skipped: no SSH server: {trouble}");
        None
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/testbed/sftp.sh"));
        command
            .arg(verb)
            .env("BACKSTAY_TESTBED_RUN", self.run.path())
            .env("BACKSTAY_TESTBED_PORT", self.port.to_string())
            .stdin(Stdio::null());
        command
    }

    /// Starts it again, with what was added to its folder.
    pub fn start_again(&self) {
        let output = self.command("start").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn stop(&self) {
        assert!(self.command("stop").status().unwrap().success());
    }

    /// Kills it with all that it started, which goes on without it otherwise.
    pub fn kill(&self) {
        let recorded = fs::read_to_string(self.run.path().join("sftp.pid")).unwrap();
        let listener: u32 = recorded.split(' ').next().unwrap().parse().unwrap();
        let mut doomed = vec![listener];
        let mut at = 0;
        while let Some(parent) = doomed.get(at).copied() {
            doomed.extend(children(parent));
            at += 1;
        }
        for pid in doomed {
            // One of them may end by itself when the other goes.
            let _gone = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        self.stop();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Keys, configuration and data.
    pub fn file(&self, name: &str) -> PathBuf {
        Path::new(&self.settings["FOLDER"]).join(name)
    }

    /// A folder that nobody used before.
    pub fn place(&self) -> SftpPlace {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = self.file(&format!("data/{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        format!("sftp://{}@127.0.0.1:{}{}", self.settings["USER"], self.port, folder.display()).parse().unwrap()
    }

    pub fn options_at(&self, place: SftpPlace) -> SftpOptions {
        SftpOptions::new(place)
            .identity(self.file("client"))
            .identities_only(true)
            .known_hosts_file(self.file("known_hosts"))
            .connect_timeout(Duration::from_secs(20))
    }

    pub fn options(&self) -> SftpOptions {
        self.options_at(self.place())
    }

    pub fn backend(&self) -> SftpBackend {
        SftpBackend::new(self.options()).unwrap()
    }

    /// The key of a file, as its line in `known_hosts` ends.
    pub fn public(&self, key: &str) -> String {
        let text = fs::read_to_string(self.file(&format!("{key}.pub"))).unwrap();
        text.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// Runs `ssh-keygen` in the server's folder.
    pub fn keygen(&self, arguments: &[&str]) -> String {
        let output = Command::new("ssh-keygen").args(arguments).current_dir(self.file("")).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn fingerprint(&self, key: &str) -> String {
        self.keygen(&["-l", "-f", key]).split(' ').nth(1).unwrap().to_owned()
    }
}

fn children(parent: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let found: Vec<u32> = list.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    if !found.is_empty() {
        return found;
    }
    // Not every kernel keeps that list.
    let output = Command::new("ps").args(["-o", "pid=", "--ppid", &parent.to_string()]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = self.command("stop").status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("a server was not stopped; its pid is in {}", self.run.path().display());
        }
    }
}
