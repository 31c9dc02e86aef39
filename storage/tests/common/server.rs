//! Real servers, started and stopped by the scripts of the test bed.

use std::{
    collections::HashMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// A server of our own; stopped when dropped.
pub struct Server {
    script: PathBuf,
    port: u16,
    run: tempfile::TempDir,
    settings: HashMap<String, String>,
}

/// A port that nobody has now. Somebody may take it before the server does, which then says that it did not come up.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts the server of this name. `None`, with a word why, where it cannot be had; a panic where it must be.
    pub fn start(name: &str) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/testbed/{name}.sh"));
        let run = tempfile::tempdir().unwrap();
        let mut server = Self { script, port: free_port(), run, settings: HashMap::new() };
        let output = server.command("start").stdin(Stdio::null()).output();
        let trouble = match output {
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
        assert!(!required, "{name} is required and could not be had: {trouble}");
        eprintln!("skipped: no {name} server: {trouble}");
        None
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.script);
        command
            .arg(verb)
            .env("BACKSTAY_TESTBED_RUN", self.run.path())
            .env("BACKSTAY_TESTBED_PORT", self.port.to_string());
        command
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the script says of the server.
    pub fn setting(&self, name: &str) -> String {
        self.settings[name].clone()
    }

    /// A prefix that nobody used before.
    pub fn fresh_prefix() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("test/{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = self.command("stop").status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("a server was not stopped; its pid is in {}", self.run.path().display());
        }
    }
}
