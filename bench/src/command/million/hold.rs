//! The floor's process: bare io_uring rings that accept connections and send to all of them when told.
//!
//! `count` on its input is answered by the number of connections, `send` by the nanoseconds of CPU that sending 61 bytes to each
//! took, all rings together. It ends with its input.

#![allow(unsafe_code)]

use std::io::BufRead as _;
use std::net::{SocketAddr, TcpListener};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use io_uring::types::{DestinationSlot, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, types};

use super::cost::ANNOUNCE;
use crate::relay_process::rings_for;
use crate::{MAGIC, Outcome, os, setup};

/// Accepts outstanding per ring, and sends submitted at a time (io_uring facts: 16 to 64 are cheapest).
const BATCH: u32 = 64;
/// Longest stay in the kernel between two looks for commands.
const LOOK: Duration = Duration::from_millis(20);
/// User data of accepts; sends have 0.
const ACCEPT: u64 = 1;

/// What a ring says after it has sent to all, nanoseconds of CPU, or when it ends: why.
type Spent = Result<u64, String>;

#[derive(clap::Args, Debug)]
pub(in crate::command) struct Args {
    /// Connections in all.
    #[arg(long)]
    clients: u32,
}

pub(in crate::command) fn run(args: Args) -> Outcome {
    let (rings, each) = rings_for(args.clients)?;
    let (address, _held) = breakwater::ring::reserve(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let count = Arc::new(AtomicU64::new(0));
    let ready = Arc::new(Barrier::new(rings as usize + 1));
    let (told, results) = mpsc::sync_channel(rings as usize);
    let mut senders = Vec::new();
    for _ in 0..rings {
        let (sender, receiver) = mpsc::sync_channel(1);
        senders.push(sender);
        let (count, ready, told) = (count.clone(), ready.clone(), told.clone());
        std::thread::spawn(move || {
            let ring = Holder::open(address, each);
            ready.wait();
            let result = ring.and_then(|mut ring| ring.serve(&count, &receiver, &told));
            if let Err(error) = result {
                // When nobody listens any more, the process is about to end.
                let _ = told.send(Err(format!("a ring of the floor: {error}")));
            }
        });
    }
    ready.wait();
    drop(told);
    println!("{address}");
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "count" => {
                // Nothing has been asked, so what a ring has said is why it ended.
                if let Ok(ended) = results.try_recv() {
                    ended?;
                }
                println!("{}", count.load(Ordering::Acquire));
            }
            "send" => println!("{}", send(&senders, &results)?),
            other => return Err(format!("{other:?} is neither count nor send").into()),
        }
    }
    Ok(())
}

/// Has every ring send to all its connections; nanoseconds of CPU in all.
fn send(rings: &[SyncSender<()>], results: &Receiver<Spent>) -> Outcome<u64> {
    for ring in rings {
        if ring.send(()).is_err() {
            // It has ended; why is among the results, and ends this below.
            break;
        }
    }
    let mut spent = 0;
    for _ in rings {
        spent += results.recv_timeout(ANNOUNCE).map_err(|_| "a ring of the floor does not send")??;
    }
    Ok(spent)
}

struct Holder {
    ring: IoUring,
    listener: TcpListener,
    conns: Vec<u32>,
    accepting: u32,
    sending: u32,
    most: u32,
}

impl Holder {
    fn open(address: SocketAddr, most: u32) -> Outcome<Holder> {
        let (ring, listener) = (setup::ring(256, 4_096, most)?, setup::shared_listener(address)?);
        Ok(Holder {
            ring,
            listener,
            conns: Vec::with_capacity(most as usize),
            accepting: 0,
            sending: 0,
            most,
        })
    }

    fn serve(&mut self, count: &AtomicU64, commands: &Receiver<()>, told: &SyncSender<Spent>) -> Outcome {
        loop {
            self.accept_more()?;
            let look = Timespec::from(LOOK);
            match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&look)) {
                Err(error) if ![Some(libc::ETIME), Some(libc::EINTR)].contains(&error.raw_os_error()) => {
                    return Err(error.into());
                }
                _ => self.reap(count)?,
            }
            match commands.try_recv() {
                Ok(()) => {
                    let before = os::thread_cpu();
                    self.send_all(count)?;
                    let spent = os::thread_cpu().saturating_sub(before);
                    if told.send(Ok(spent.as_nanos() as u64)).is_err() {
                        return Ok(());
                    }
                }
                Err(mpsc::TryRecvError::Empty) => {}
                Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    fn accept_more(&mut self) -> Outcome {
        use std::os::fd::AsRawFd as _;
        while self.accepting < BATCH && self.conns.len() as u32 + self.accepting < self.most {
            let fd = types::Fd(self.listener.as_raw_fd());
            let accept = opcode::Accept::new(fd, ptr::null_mut(), ptr::null_mut())
                .file_index(Some(DestinationSlot::auto_target()))
                .build()
                .user_data(ACCEPT);
            // SAFETY: it points to nothing.
            unsafe { self.ring.submission().push(&accept) }?;
            self.accepting += 1;
        }
        Ok(())
    }

    fn send_all(&mut self, count: &AtomicU64) -> Outcome {
        let bytes = breakwater::feed::blocks::inv_message(MAGIC, &[7; 32]);
        let conns = std::mem::take(&mut self.conns);
        for batch in conns.chunks(BATCH as usize) {
            for conn in batch {
                let send = opcode::Send::new(Fixed(*conn), bytes.as_ptr(), bytes.len() as u32)
                    .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                    .build();
                // SAFETY: all sends are reaped below, before `bytes` can go.
                unsafe { self.ring.submission().push(&send) }?;
            }
            self.sending += batch.len() as u32;
            self.ring.submit()?;
            self.reap(count)?;
        }
        while self.sending > 0 {
            self.ring.submit_and_wait(1)?;
            self.reap(count)?;
        }
        self.conns.splice(0..0, conns);
        Ok(())
    }

    fn reap(&mut self, count: &AtomicU64) -> Outcome {
        for done in self.ring.completion() {
            match (done.user_data(), u32::try_from(done.result())) {
                (ACCEPT, Ok(slot)) => {
                    self.accepting -= 1;
                    self.conns.push(slot);
                    count.fetch_add(1, Ordering::AcqRel);
                }
                (ACCEPT, Err(_)) => return Err(format!("accept gave {}", done.result()).into()),
                (_, Ok(_)) => self.sending -= 1,
                (_, Err(_)) => return Err(format!("a send gave {}", done.result()).into()),
            }
        }
        Ok(())
    }
}
