//! A folder of its own for each test, and the real binary run in it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A temporary folder, removed at the end.
pub struct Workdir {
    dir: tempfile::TempDir,
}

/// How a run of the binary ended.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    dir: PathBuf,
}

impl Workdir {
    pub fn new(name: &str) -> Self {
        Self { dir: tempfile::Builder::new().prefix(&format!("wbc-{name}-")).tempdir().unwrap() }
    }

    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Runs `wbc` here, with no `WBC_*` variable set.
    pub fn wbc(&self, args: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wbc"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WBC_")) {
            command.env_remove(name);
        }
        let output = command.args(args).current_dir(self.dir.path()).output().unwrap();
        Run {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            dir: self.dir.path().into(),
        }
    }
}

impl Run {
    pub fn ok(self) -> Run {
        self.exits(0)
    }

    pub fn exits(self, status: i32) -> Run {
        let Run { stdout, stderr, dir, .. } = &self;
        let dir = dir.display();
        assert_eq!(self.status, status, "\nin {dir}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        self
    }
}
