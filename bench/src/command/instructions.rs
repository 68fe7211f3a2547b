//! Runs one subject of the micro benchmarks so many rounds, for bench/callgrind: what differs between two numbers of
//! rounds is what the rounds cost, set-up cancels.

use crate::Outcome;
use crate::micro::Group;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Whose subject.
    #[arg(long)]
    what: Group,
    /// Which of the group, counted from 0; without it they are listed, one a line: number, items a round, name.
    #[arg(long)]
    subject: Option<usize>,
    /// How many rounds.
    #[arg(long, default_value_t = 1)]
    rounds: u64,
}

pub(super) fn run(args: Args) -> Outcome {
    let subjects = args.what.subjects();
    let Some(number) = args.subject else {
        for (number, subject) in subjects.iter().enumerate() {
            println!("{number}\t{}\t{}", subject.items, subject.name);
        }
        return Ok(());
    };
    let Some(subject) = subjects.get(number) else {
        return Err(format!("--subject {number}: the group has {}", subjects.len()).into());
    };
    let mut round = (subject.make)()?;
    for _ in 0..args.rounds {
        round();
    }
    Ok(())
}
