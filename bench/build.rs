//! Writes the commit into the programs, as `BREAKWATER_COMMIT`: they may run far from a git tree, and a report without its
//! commit cannot be compared. "unknown" where there is no git or no repository.

use std::path::Path;
use std::process::Command;

fn main() {
    let commit = git(&["describe", "--always", "--dirty"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=BREAKWATER_COMMIT={commit}");
    // A commit appends to this file, whatever the branch, in work trees, too.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    let watched = log.into_iter().chain(["build.rs", "src", "../src"].map(str::to_owned));
    for path in watched.filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
