//! Files, the doorbell, time.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use breakwater::base::{ClientId, Conn};
use breakwater::io::{Done, File, Kernel, Op};
use breakwater::link::Doorbell;
use breakwater::ring::RingConfig;
use bytes::Bytes;

use super::rig::*;

#[derive(Debug)]
struct Plain {
    file: fs::File,
    with_fd: bool,
}

impl File for Plain {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn map(&self, _: u64) -> io::Result<Bytes> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn raw_fd(&self) -> Option<RawFd> {
        self.with_fd.then(|| self.file.as_raw_fd())
    }
}

#[test]
fn files_are_read_at_an_offset_to_their_end() {
    let mut rig = Rig::local();
    let client = ClientId { slot: 5, generation: 5 };
    let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 253) as u8).collect();
    for with_fd in [true, false] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let file = Arc::new(Plain { file, with_fd });
        for (offset, len, read) in
            [(0, 300_000, 300_000), (1_000, 10, 10), (299_990, 100, 10), (400_000, 9, 0)]
        {
            let buffer = b"before".to_vec();
            rig.ring.push(Op::Read { client, file: file.clone(), offset, len, buffer });
            let (buffer, result) = rig.expect("Read", |done| match done {
                Done::Read { buffer, result, .. } => Some((buffer.clone(), *result)),
                _ => None,
            });
            assert_eq!(result, Ok(read));
            let start = (offset as usize).min(bytes.len());
            assert_eq!(&buffer[..6], b"before");
            assert!(buffer[6..] == bytes[start..start + read as usize]);
        }
    }
    let folder = Arc::new(Plain { file: fs::File::open("/").unwrap(), with_fd: true });
    rig.ring.push(Op::Read { client, file: folder, offset: 0, len: 9, buffer: Vec::new() });
    let result = rig.expect("Read", |done| match done {
        Done::Read { result, .. } => Some(*result),
        _ => None,
    });
    assert_eq!(result, Err(libc::EISDIR));
}

#[test]
fn the_doorbell_wakes_again_and_again() {
    let doorbell = Doorbell::new().unwrap();
    let mut rig = Rig::new(RingConfig { doorbell: doorbell.clone(), ..RingConfig::default() });
    for _ in 0..3 {
        doorbell.will_sleep();
        let ringer = doorbell.clone();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            ringer.ring();
        });
        rig.expect("Doorbell", |done| matches!(done, Done::Doorbell).then_some(()));
        thread.join().unwrap();
    }
    rig.run_for(Duration::from_millis(20));
    assert!(rig.dones.is_empty(), "rung once, heard once");
}

#[test]
fn waiting_ends_in_time_and_a_turn_is_bounded() {
    let mut rig = Rig::local();
    let start = rig.ring.now();
    rig.ring.wait(start + Duration::from_millis(30), &mut rig.dones);
    let waited = rig.ring.now().since(start);
    assert!(waited >= Duration::from_millis(30) && waited < Duration::from_secs(2), "{waited:?}");
    assert!(rig.dones.is_empty());
    let client = ClientId { slot: 1, generation: 1 };
    (0..1_500).for_each(|_| rig.ring.push(Op::Receive { client, conn: Conn(9) }));
    rig.look();
    assert_eq!(rig.dones.len(), 1_024);
    rig.look();
    assert_eq!(rig.dones.len(), 1_500);
    assert!(rig.ring.unix_time() > 1_700_000_000);
}
