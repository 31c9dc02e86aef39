//! How much a long operation may take.

use serde::{Deserialize, Serialize};

/// Bounds on threads, requests and buffers. Memory follows from them: it never grows with a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Limits {
    /// CPU jobs at once. 0 means one for each core.
    pub cpu_jobs: usize,
    /// 16 MiB windows of a source that are in memory at once.
    pub windows: usize,
    /// Objects put at once.
    pub uploads: usize,
    /// Ranges fetched at once.
    pub downloads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpu_jobs: 0, windows: 0, uploads: 2, downloads: 16 }
    }
}

impl Limits {
    /// Sets [`Self::cpu_jobs`].
    #[must_use]
    pub fn cpu_jobs(mut self, jobs: usize) -> Self {
        self.cpu_jobs = jobs;
        self
    }

    /// Sets [`Self::uploads`].
    #[must_use]
    pub fn uploads(mut self, uploads: usize) -> Self {
        self.uploads = uploads;
        self
    }

    /// Sets [`Self::downloads`].
    #[must_use]
    pub fn downloads(mut self, downloads: usize) -> Self {
        self.downloads = downloads;
        self
    }

    /// CPU jobs at once, with 0 resolved to the number of cores.
    #[must_use]
    pub fn effective_cpu_jobs(&self) -> usize {
        match self.cpu_jobs {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            jobs => jobs,
        }
    }

    /// Windows in memory at once, with 0 resolved to one more than there are CPU jobs, at most 9.
    #[must_use]
    pub fn effective_windows(&self) -> usize {
        match self.windows {
            0 => (self.effective_cpu_jobs() + 1).min(9),
            windows => windows,
        }
    }
}
