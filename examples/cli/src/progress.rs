//! The engine's events on a terminal.

use std::{
    collections::HashMap,
    io::{IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backstay::{Event, EventSink, TaskId};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Bars on a terminal, nothing elsewhere; warnings are printed as they come, and kept.
pub struct Progress {
    bars: Option<MultiProgress>,
    json: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashMap<TaskId, ProgressBar>,
    warnings: Vec<String>,
}

impl Progress {
    pub fn new(quiet: bool, json: bool) -> Self {
        let bars = (!quiet && !json && std::io::stderr().is_terminal()).then(MultiProgress::new);
        Self { bars, json, state: Mutex::default() }
    }

    /// Tells the person at the terminal, if there is one.
    pub fn note(&self, text: &str) {
        if let Some(bars) = &self.bars {
            // A terminal that is gone needs no note.
            let _gone = bars.println(text);
        }
    }

    /// Says something that must be seen, whether anybody wants progress or not.
    pub fn warn_plainly(&self, text: &str) {
        let _closed = writeln!(std::io::stderr(), "{text}");
    }

    /// A warning of our own.
    pub fn warn(&self, text: &str) {
        self.state().warnings.push(text.to_owned());
        self.say(text);
    }

    /// Every warning so far.
    pub fn warnings(&self) -> Vec<String> {
        self.state().warnings.clone()
    }

    /// Takes the bars off the terminal.
    pub fn clear(&self) {
        if let Some(bars) = &self.bars {
            self.state().running.drain().for_each(|(_, bar)| bar.finish_and_clear());
            let _gone = bars.clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In JSON warnings are part of the document.
    fn say(&self, warning: &str) {
        match &self.bars {
            _ if self.json => {}
            Some(_) => self.note(&format!("warning: {warning}")),
            None => {
                let _closed = writeln!(std::io::stderr(), "warning: {warning}");
            }
        }
    }

    fn start(&self, bars: &MultiProgress, task: TaskId, name: &str, total: Option<u64>) {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        bar.set_style(style(total.is_some()));
        bar.set_prefix(name.to_owned());
        let bar = bars.add(bar);
        if total.is_none() {
            bar.enable_steady_tick(Duration::from_millis(150));
        }
        self.state().running.insert(task, bar);
    }
}

impl EventSink for Progress {
    fn emit(&self, event: Event) {
        if let Event::Warned { message, .. } = &event {
            return self.warn(message);
        }
        let Some(bars) = &self.bars else { return };
        match event {
            Event::Started { task, name, total, .. } => self.start(bars, task, &name, total),
            Event::Progressed { task, done, total } => {
                let bar = self.state().running.get(&task).cloned();
                if let Some(bar) = bar {
                    if total.is_some() && total != bar.length() {
                        bar.set_style(style(true));
                        bar.set_length(total.unwrap_or_default());
                    }
                    bar.set_position(done);
                }
            }
            Event::Finished { task, .. } => {
                let bar = self.state().running.remove(&task);
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                    bars.remove(&bar);
                }
            }
            _ => {}
        }
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total {
        "{prefix:20!} {bar:30} {binary_bytes:>12} of {binary_total_bytes:<12} {binary_bytes_per_sec:>14} {eta:>4}"
    } else {
        "{prefix:20!} {spinner} {binary_bytes:>12} {elapsed:>6}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
