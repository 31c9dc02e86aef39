//! The real tools, and a disk with something on it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use backstay_core::{Context, DiskSource, ExtentKind};
use backstay_hypervisor::{ImageFormat, ImageGate, ImageSource, Tracking, open_image};

/// Whether the tools are there. Where they must be, a missing one fails the test.
pub fn available() -> bool {
    if Command::new("qemu-img").arg("--version").output().is_ok() {
        return true;
    }
    assert!(
        std::env::var_os("BACKSTAY_TESTS_WITHOUT_QEMU").is_some_and(|value| value == "1"),
        "qemu-img is not installed; set BACKSTAY_TESTS_WITHOUT_QEMU=1 to do without these tests"
    );
    println!("skipped: qemu-img is not installed");
    false
}

/// Runs a tool in `dir`.
pub fn try_run(dir: &Path, line: &str) -> Output {
    let mut words = line.split_whitespace();
    let tool = words.next().unwrap();
    Command::new(tool).args(words).current_dir(dir).output().unwrap()
}

/// Runs a tool in `dir`; it has to succeed.
pub fn run(dir: &Path, line: &str) -> String {
    let output = try_run(dir, line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Runs `qemu-io` commands on an image.
pub fn io(dir: &Path, image: &str, format: &str, commands: &[String]) {
    for chunk in commands.chunks(64) {
        let mut tool = Command::new("qemu-io");
        tool.args(["-f", format]).current_dir(dir);
        for command in chunk {
            tool.args(["-c", command]);
        }
        let output = tool.arg(image).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !text.contains("failed"), "{text}");
    }
}

/// A small random number generator with a seed: xorshift64*.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound
    }
}

/// Commands that write, zero and discard here and there on a disk of `size` bytes.
pub fn scribble(dice: &mut Dice, size: u64, count: usize) -> Vec<String> {
    let mut commands = Vec::new();
    for _ in 0..count {
        let offset = dice.below(size) / 512 * 512;
        let len = (dice.below(3 << 18) + 512).min(size / 512 * 512 - offset) / 512 * 512;
        if len == 0 {
            continue;
        }
        let pattern = dice.below(255) + 1;
        commands.push(match dice.below(8) {
            0 => format!("write -z {offset} {len}"),
            1 => format!("write -z -u {offset} {len}"),
            2 => format!("discard {offset} {len}"),
            _ => format!("write -P {pattern} {offset} {len}"),
        });
    }
    commands
}

/// Opens an image whose chain may lie anywhere in `dir`.
pub async fn open(dir: &Path, image: &str, format: ImageFormat) -> backstay_core::Result<ImageSource> {
    let gate = ImageGate::directory(dir);
    open_image(dir.join(image), format, &gate, &Tracking::default(), &Context::default()).await
}

/// Every byte of a source, read in windows of `window` bytes. Checks on the way that extents cover the disk without gap
/// and that what they call zero is zero.
pub async fn read_all(source: &dyn DiskSource, window: u64) -> backstay_core::Result<Vec<u8>> {
    let size = source.size();
    let mut all = Vec::new();
    let mut buffer = Vec::new();
    let mut at = 0;
    while at < size {
        let end = (at + window).min(size);
        buffer = source.read(at..end, buffer).await?;
        assert_eq!(buffer.len() as u64, end - at);
        all.extend_from_slice(&buffer);
        at = end;
    }
    let mut at = 0;
    while at < size {
        let extents = source.extents(at..size).await?;
        assert!(!extents.is_empty());
        for extent in extents {
            assert_eq!(extent.range.start, at);
            assert!(extent.range.end > at && extent.range.end <= size);
            let bytes = &all[at as usize..extent.range.end as usize];
            assert!(extent.kind == ExtentKind::Data || bytes.iter().all(|byte| *byte == 0), "{extent:?}");
            at = extent.range.end;
        }
    }
    Ok(all)
}

/// What QEMU reads from an image.
pub fn converted(dir: &Path, image: &str, format: &str) -> Vec<u8> {
    let raw = PathBuf::from(format!("{image}.converted"));
    run(dir, &format!("qemu-img convert -f {format} -O raw {image} {}", raw.display()));
    let bytes = std::fs::read(dir.join(&raw)).unwrap();
    std::fs::remove_file(dir.join(raw)).unwrap();
    bytes
}
