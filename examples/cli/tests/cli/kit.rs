//! A home for a test: a folder, a repository, and the binary.

use std::{
    ffi::OsStr,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

pub const MIB: usize = 1 << 20;
const BINARY: &str = env!("CARGO_BIN_EXE_backstay");

/// A folder of its own with the repository `repo`, which the key file `key` opens.
pub struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With a repository of small packs. A key file, as deriving a key from a passphrase takes its time.
    pub fn new() -> Self {
        let home = Self::empty();
        home.ok(["init", "--key-file", &home.text("key"), "--no-recovery", "--pack-size", "1M"]);
        home
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The binary with the repository and, where there is one, the key file; nothing else from outside.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(BINARY);
        let ours = |name: &str| {
            ["BACKSTAY_", "AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_"].iter().any(|start| name.starts_with(start))
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
            command.env_remove(name);
        }
        command.current_dir(self.dir.path()).env("BACKSTAY_REPOSITORY", self.path("repo"));
        if self.path("key").exists() {
            command.env("BACKSTAY_KEY_FILE", self.path("key"));
        }
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs it; it must succeed.
    pub fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        succeeded(self.command(args).output().unwrap())
    }

    /// Runs it with `--json`; it must succeed.
    pub fn json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Value {
        let output = self.command(args).arg("--json").output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&succeeded(output)).unwrap()
    }

    /// Runs it with `--json`; it must fail with this exit code. Gives the error.
    pub fn fails<A: AsRef<OsStr>>(&self, code: i32, args: impl IntoIterator<Item = A>) -> Value {
        failed(code, self.command(args).arg("--json").output().unwrap())
    }

    /// Backs `args` up as the workload `w`; gives the answer.
    pub fn backup<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Value {
        self.json(["backup", "--workload", "w"].into_iter().chain(args))
    }

    /// Makes a disk image of these bytes, holes where they are zero.
    pub fn disk(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(content.len() as u64).unwrap();
        for (at, block) in content.chunks(65536).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0)) {
            file.write_all_at(block, at as u64 * 65536).unwrap();
        }
        path
    }

    /// What a point's disk holds now.
    pub fn restored(&self, point: &str, disk: &str) -> Vec<u8> {
        let output = self.command(["restore", point, "--disk", disk, "--to", "-"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// `check --read all` finds nothing.
    pub fn check(&self) -> Value {
        let report = self.json(["check", "--read", "all"]);
        assert_eq!(report["clean"], true, "{report}");
        report
    }

    pub fn points(&self) -> Vec<Value> {
        self.json(["points"]).as_array().unwrap().clone()
    }
}

pub fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn failed(code: i32, output: Output) -> Value {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty());
    let document: Value = serde_json::from_str(&stderr).unwrap_or_else(|_| panic!("no JSON: {stderr}"));
    let error = document["error"].clone();
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()) && error["context"].is_object());
    error
}

/// Runs it with this on standard input.
pub fn feed(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// Another program; false when it is not there. It must succeed.
pub fn tool<A: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = A>) -> bool {
    match Command::new(name).args(args).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {name} is not installed");
            false
        }
        output => {
            succeeded(output.unwrap());
            true
        }
    }
}

/// Both images hold the same disk, says QEMU.
pub fn same_disk(left: &Path, right: &Path) {
    tool("qemu-img", [OsStr::new("compare"), left.as_os_str(), right.as_os_str()]);
}

/// Numbers that look random and are the same in every run.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Bytes that do not compress.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]));
    }
}

/// A disk with thirds of noise, of text and of holes, mixed.
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = vec![0; len];
    for piece in bytes.chunks_mut(MIB / 4) {
        match numbers.next() % 3 {
            0 => numbers.fill(piece),
            1 => {
                let line = format!("{:x} the quick brown fox jumps over the lazy dog\n", numbers.next());
                piece.iter_mut().zip(line.bytes().cycle()).for_each(|(to, from)| *to = from);
            }
            _ => {}
        }
    }
    bytes
}
