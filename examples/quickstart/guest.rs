//! A guest's disk for those who have none at hand: a qcow2 image with the mix of an ext4 file system, written by our own code.

use std::path::Path;

use backstay::{Context, DiskSink, Error, Qcow2Sink, Result};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{files::Files, show::bytes};

/// ext4 groups blocks by this much; each group begins with its bitmaps and its table of inodes.
const GROUP: u64 = 128 << 20;
/// Part of each group that is used in a disk that is two thirds empty.
const USED_OF_GROUP: u64 = GROUP / 6;
const INODES: usize = 256 << 10;
const BLOCK: u64 = 4096;
/// What is handed to the sink at once.
const PIECE: usize = 1 << 20;

/// Makes the image: about `data` bytes in a disk several times as large. Gives a line that says what is in it.
pub async fn make(path: &Path, data: u64, ctx: &Context) -> Result<String> {
    let groups = data.div_ceil(USED_OF_GROUP).max(1);
    let size = groups * GROUP;
    let sink = Qcow2Sink::create(path, size, false, ctx).await?;
    let task = ctx.task("make disk", Some(data));
    // The producer reads files, which blocks; a few pieces are under way at once.
    let (send, mut pieces) = mpsc::channel(4);
    let (producer, own) = (ctx.clone(), ctx.clone());
    let produced = producer.blocking(move || produce(data, groups, &send, &own));
    let written = async {
        while let Some((offset, piece)) = pieces.recv().await {
            let piece: Bytes = piece;
            task.advance(piece.len() as u64);
            sink.write(offset, piece).await?;
        }
        Ok(())
    };
    let (mix, ()) = tokio::try_join!(produced, written)?;
    let sink: Box<dyn DiskSink> = Box::new(sink);
    sink.commit().await?;
    Ok(format!(
        "a disk of {} with {} in the mix of a Linux guest on ext4: {} from {} files of this machine, {} of \
         those again as copies, {} generated, the rest holes",
        bytes(size),
        bytes(mix.files + mix.copies + mix.generated),
        bytes(mix.files),
        mix.count,
        bytes(mix.copies),
        bytes(mix.generated),
    ))
}

/// What went into the disk.
#[derive(Default)]
struct Mix {
    files: u64,
    count: usize,
    copies: u64,
    generated: u64,
}

type Sender = mpsc::Sender<(u64, Bytes)>;

fn produce(data: u64, groups: u64, send: &Sender, ctx: &Context) -> Result<Mix> {
    let mut disk = Layout { send, ctx, at: 0, piece: Vec::new(), left: 0, dice: Dice::new(1), mix: Mix::default() };
    // A tenth is copies of what is there already, as in any guest that has seen an upgrade.
    let files = Files::collect(data / 10 * 9);
    let copies = data / 10;
    let mut todo = files.iter().map(|file| (file, false)).collect::<Vec<_>>();
    let mut copied = 0;
    let again = files.iter().step_by(3).take_while(|file| {
        copied += file.size;
        copied <= copies
    });
    todo.extend(again.map(|file| (file, true)));
    let mut todo = todo.into_iter();
    let mut open = None;
    for group in 0..groups {
        ctx.check()?;
        disk.begin_group(group)?;
        while disk.left > 0 {
            if open.is_none() {
                open = todo.next().and_then(|(file, copy)| Some((file.open()?, copy)));
                disk.mix.count += usize::from(matches!(open, Some((_, false))));
            }
            match &mut open {
                Some((file, copy)) => {
                    if !disk.file(file, *copy)? {
                        open = None;
                    }
                }
                None if todo.len() > 0 => {}
                None => disk.generated()?,
            }
        }
        disk.flush()?;
    }
    Ok(disk.mix)
}

/// Lays files out in groups, in rising order.
struct Layout<'a> {
    send: &'a Sender,
    ctx: &'a Context,
    /// Where the next byte goes.
    at: u64,
    /// Bytes that end at `at` and are not sent yet.
    piece: Vec<u8>,
    /// Bytes that the group still takes.
    left: u64,
    dice: Dice,
    mix: Mix,
}

impl Layout<'_> {
    fn begin_group(&mut self, group: u64) -> Result<()> {
        self.at = group * GROUP;
        self.left = USED_OF_GROUP;
        let mut table = vec![0; INODES];
        // Inodes: small numbers, times that differ little, block addresses that rise. A third of them are free.
        for (number, inode) in table.chunks_exact_mut(256).enumerate().filter(|(number, _)| number % 3 != 0) {
            let time = 1_700_000_000 + self.dice.below(1 << 22) as u32;
            inode[..4].copy_from_slice(&0x81a4_u32.to_le_bytes());
            inode[4..8].copy_from_slice(&(self.dice.below(1 << 16) as u32).to_le_bytes());
            [8, 12, 16].iter().for_each(|at| inode[*at..at + 4].copy_from_slice(&time.to_le_bytes()));
            inode[40..44].copy_from_slice(&0x0001_f30a_u32.to_le_bytes());
            inode[60..64].copy_from_slice(&((group * 32768) as u32 + number as u32 * 4).to_le_bytes());
        }
        self.mix.generated += INODES as u64;
        self.append(&table)
    }

    /// Appends what the group takes of a file; `false` when the file has ended.
    fn file(&mut self, file: &mut impl std::io::Read, copy: bool) -> Result<bool> {
        let mut buffer = [0; 64 << 10];
        let room = (self.left as usize).min(buffer.len());
        // A file that cannot be read to its end is as long as it could be read.
        let read = file.read(&mut buffer[..room]).unwrap_or(0);
        if read == 0 {
            self.end_block()?;
            return Ok(false);
        }
        let count = if copy { &mut self.mix.copies } else { &mut self.mix.files };
        *count += read as u64;
        self.append(&buffer[..read])?;
        Ok(true)
    }

    /// Appends logs, tables of a program, or what is compressed already.
    fn generated(&mut self) -> Result<()> {
        let size = (self.left as usize).min(256 << 10);
        let mut made = vec![0; size];
        match self.dice.below(10) {
            0..5 => fill_text(&mut made, &mut self.dice),
            5..9 => fill_binary(&mut made, &mut self.dice),
            _ => self.dice.fill(&mut made),
        }
        self.mix.generated += size as u64;
        self.append(&made)
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            self.at += now.len() as u64;
            bytes = later;
            if self.piece.len() == PIECE {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Files begin at a block; now and then a deleted one has left a gap.
    fn end_block(&mut self) -> Result<()> {
        let padding = self.at.next_multiple_of(BLOCK) - self.at;
        self.append(&vec![0; padding as usize])?;
        if self.dice.below(64) == 0 {
            self.flush()?;
            let gap = (1 + self.dice.below(64)) * BLOCK;
            self.at += gap;
            self.left = self.left.saturating_sub(gap);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.ctx.check()?;
        if self.piece.is_empty() {
            return Ok(());
        }
        let start = self.at - self.piece.len() as u64;
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        // Nobody takes it any more when writing has failed, and then that error is the one to report.
        self.send.blocking_send((start, piece.into())).map_err(|_| Error::cancelled())
    }
}

/// A small generator of numbers, the same in every run.
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Noise.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let noise = self.next().to_le_bytes();
            chunk.copy_from_slice(&noise[..chunk.len()]);
        }
    }
}

/// Lines of a log.
pub fn fill_text(mut bytes: &mut [u8], dice: &mut Dice) {
    const WORDS: [&str; 16] = [
        "accepted",
        "closed",
        "connection",
        "cron",
        "daemon",
        "error",
        "failed",
        "from",
        "kernel",
        "opened",
        "request",
        "session",
        "started",
        "timeout",
        "user",
        "warning",
    ];
    let mut second = dice.below(86_400);
    while !bytes.is_empty() {
        second = (second + dice.below(3)) % 86_400;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        let mut line =
            format!("2026-11-20T{hour:02}:{minute:02}:{:02} web-01 app[{}]:", second % 60, dice.below(30_000));
        for _ in 0..4 + dice.below(8) {
            line.push(' ');
            line.push_str(WORDS[dice.below(16) as usize]);
        }
        line.push_str(&format!(" id={:08x}\n", dice.below(1 << 32)));
        let length = line.len().min(bytes.len());
        let (now, later) = std::mem::take(&mut bytes).split_at_mut(length);
        now.copy_from_slice(&line.as_bytes()[..length]);
        bytes = later;
    }
}

/// Records of a table: a number that rises, small numbers, an address, zeroes.
fn fill_binary(bytes: &mut [u8], dice: &mut Dice) {
    for (number, record) in bytes.chunks_mut(32).enumerate() {
        let mut made = [0; 32];
        made[..4].copy_from_slice(&(number as u32).to_le_bytes());
        made[4..6].copy_from_slice(&(dice.below(900) as u16).to_le_bytes());
        made[8..16].copy_from_slice(&(0x7f00_0000_0000 + dice.below(1 << 20) * 16).to_le_bytes());
        record.copy_from_slice(&made[..record.len()]);
    }
}
