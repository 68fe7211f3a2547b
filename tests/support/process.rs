//! A child process that writes to a log file and ends with its handle.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::wait;

/// Clock ticks per second in /proc/PID/stat. USER_HZ is 100 on every Linux this project runs on.
const TICKS_PER_SECOND: f64 = 100.0;

pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where this run's part of the log begins: a restart appends.
    log_start: u64,
}

impl Process {
    /// Starts the command; standard output and error are appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Process {
        let out = OpenOptions::new().create(true).append(true).open(log).expect("log file");
        let log_start = out.metadata().expect("log file").len();
        let err = out.try_clone().expect("log file");
        let child = command
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}): {e}"));
        Process { name: name.to_string(), child, log: log.to_path_buf(), log_start }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The status, if the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("end of {}", self.name);
        wait::until(&what, limit, || self.ended())
    }

    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// SIGHUP: read certificates again.
    pub fn hang_up(&self) {
        self.signal("HUP");
    }

    pub fn stop(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// CPU time used so far, user and system, all threads.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("/proc stat");
        // The command name may hold spaces; it ends with the last parenthesis.
        let rest = stat.rsplit_once(')').expect("stat format").1;
        let field =
            |n: usize| rest.split_whitespace().nth(n).expect("stat field").parse::<f64>().expect("number");
        (field(11) + field(12)) / TICKS_PER_SECOND
    }

    /// What this run has logged so far.
    pub fn log(&self) -> String {
        self.read_log().unwrap_or_else(|e| format!("(no log: {e})"))
    }

    fn read_log(&self) -> std::io::Result<String> {
        let mut text = Vec::new();
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.log_start))?;
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn signal(&self, name: &str) {
        // The shell's kill is there even where procps is not.
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid())).status();
        assert!(status.expect("sh").success(), "cannot signal {}", self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "---- end of the log of {} (pid {})\n{}\n----",
                self.name,
                self.pid(),
                self.log_tail(40)
            );
        }
        self.kill();
    }
}
