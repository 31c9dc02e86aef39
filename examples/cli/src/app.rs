//! What every command works with.

use std::sync::Arc;

use backstay::{Context, Error, Repository, Result, StorageBackend};

use crate::{args::Global, exit, output::Output, place, progress::Progress, prompt, secrets};

/// Options, the context of the operation, and ways to speak.
pub struct App {
    pub global: Global,
    pub ctx: Context,
    pub progress: Arc<Progress>,
    pub output: Output,
}

impl App {
    pub fn new(global: Global) -> Self {
        let progress = Arc::new(Progress::new(global.quiet, global.json));
        let ctx = Context::default().with_events(Arc::clone(&progress) as _);
        let output = Output { json: global.json, quiet: global.quiet };
        Self { global, ctx, progress, output }
    }

    /// Where the repository is, with or without the cache that was asked for.
    pub fn backend(&self, cached: bool) -> Result<Arc<dyn StorageBackend>> {
        let place = self.global.repo.as_deref().ok_or_else(|| {
            Error::invalid_input("Which repository? Name it with --repo REPO or in BACKSTAY_REPOSITORY")
        })?;
        place::open(place, &self.global, cached)
    }

    /// Opens the repository.
    pub async fn repository(&self) -> Result<Repository> {
        self.open(self.backend(true)?).await
    }

    /// Opens the repository so that what is read is what the store has, and no copy on this machine.
    pub async fn uncached_repository(&self) -> Result<Repository> {
        self.open(self.backend(false)?).await
    }

    /// The same by other options than those of the command line.
    pub async fn repository_by(&self, global: &Global) -> Result<Repository> {
        self.open_by(self.backend(false)?, global).await
    }

    async fn open(&self, backend: Arc<dyn StorageBackend>) -> Result<Repository> {
        self.open_by(backend, &self.global).await
    }

    async fn open_by(&self, backend: Arc<dyn StorageBackend>, global: &Global) -> Result<Repository> {
        // Before anybody is asked for a passphrase.
        place::must_be_there(&*backend).await?;
        let credential = secrets::to_open(global, &self.ctx).await?;
        Repository::open(backend, credential, &self.ctx).await
    }

    /// Says what went wrong and gives the exit code.
    pub fn fail(&self, error: &Error) -> u8 {
        self.progress.clear();
        self.output.error(error, &self.progress.warnings());
        exit::code(error)
    }

    /// Ends the process.
    pub fn finish(&self, code: u8) -> ! {
        self.progress.clear();
        prompt::restore_terminal();
        std::process::exit(i32::from(code))
    }
}
