//! The load rig.

pub mod node;

use std::process::ExitCode;

use breakwater::control::config::one_line;
use clap::Parser;

/// The load rig of breakwater.
#[derive(Parser, Debug)]
#[command(name = "breakwater-rig", version, about)]
enum Rig {
    Node(node::Args),
}

/// The command line of `breakwater-rig`.
pub fn main() -> ExitCode {
    let Rig::Node(args) = match Rig::try_parse() {
        Ok(rig) => rig,
        Err(error) if !error.use_stderr() => {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
            let words: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
            return say(&format!("{} (try --help)", words.join(" ").trim_start_matches("error: ")), 2);
        }
    };
    match node::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(node::Failure::Usage(text)) => say(&text, 2),
        Err(node::Failure::Other(text)) => say(&text, 1),
    }
}

fn say(text: &str, status: u8) -> ExitCode {
    eprintln!("breakwater-rig: {}", one_line(text));
    ExitCode::from(status)
}
