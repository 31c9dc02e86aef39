//! Progress bars while it works, a table at the end.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use backstay::{Event, EventSink, RestorePoint, TaskId};
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

/// A bar for every task that knows how much there is to do. Nothing is drawn where standard error is no terminal.
#[derive(Default)]
pub struct Screen {
    bars: MultiProgress,
    running: Mutex<HashMap<TaskId, ProgressBar>>,
}

impl Screen {
    /// Prints a line above the bars.
    pub fn line(&self, text: &str) {
        self.bars.suspend(|| println!("{text}"));
    }

    /// Takes the bars away.
    pub fn clear(&self) {
        // A terminal that is gone needs no clearing.
        let _gone = self.bars.clear();
    }

    fn start(&self, task: TaskId, name: &str, total: u64) {
        let style = "{msg:>10} {bar:36} {percent:>3} %  {bytes:>10} of {total_bytes}  {bytes_per_sec}";
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.bars.add(ProgressBar::new(total).with_style(style));
        bar.set_message(name.to_owned());
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(task, bar);
    }
}

impl EventSink for Screen {
    fn emit(&self, event: Event) {
        let bar = |task: &TaskId| self.running.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned();
        match event {
            Event::Started { task, name, total: Some(total), .. } => self.start(task, &name, total),
            Event::Progressed { task, done, total } => {
                if let Some(bar) = bar(&task) {
                    total.into_iter().for_each(|total| bar.set_length(total));
                    bar.set_position(done);
                }
            }
            Event::Warned { message, .. } => self.bars.suspend(|| eprintln!("Warning: {message}")),
            Event::Finished { task, .. } => {
                let bar = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
                bar.into_iter().for_each(|bar| bar.finish_and_clear());
            }
            _ => {}
        }
    }
}

/// A number of bytes for people.
pub fn bytes(count: u64) -> String {
    HumanBytes(count).to_string()
}

/// A line of the table.
pub struct Row([String; 8]);

impl Row {
    /// `plain` bytes of what was read had not been stored before.
    pub fn backup(name: &str, point: &RestorePoint, plain: u64, seconds: f64) -> Self {
        let ratio = |from: u64, to: u64| match to {
            0 => "–".to_owned(),
            _ => format!("{:.2}×", from as f64 / to as f64),
        };
        let method = point.disks.first().map_or("", |disk| disk.method.name());
        Self([
            format!("{name} ({method})"),
            bytes(point.read_bytes),
            bytes(plain),
            bytes(point.stored_bytes),
            ratio(point.read_bytes, plain),
            ratio(plain, point.stored_bytes),
            format!("{seconds:.2} s"),
            speed(point.read_bytes, seconds),
        ])
    }

    /// `data` bytes of the disk are no holes.
    pub fn restore(name: &str, data: u64, seconds: f64) -> Self {
        let none = String::new;
        Self([
            name.to_owned(),
            bytes(data),
            none(),
            none(),
            none(),
            none(),
            format!("{seconds:.2} s"),
            speed(data, seconds),
        ])
    }
}

fn speed(count: u64, seconds: f64) -> String {
    format!("{:.2} GB/s", count as f64 / 1e9 / seconds.max(1e-9))
}

/// The table of what was done.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["", "read", "new", "stored", "dedup", "compression", "time", "speed"]);
    for row in rows {
        table.add_row(&row.0);
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// The most memory that this process ever had, in bytes, where the system tells.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}
