//! Reading files into the shard's buffers.

#![allow(unsafe_code)]

use io_uring::{opcode, types};
use slotmap::DefaultKey;

use super::Ring;
use super::token::{Kind, MAX_INDEX, Token};
use crate::base::ClientId;
use crate::io::{Done, FileRef};

/// A read under way.
pub(super) struct ReadState {
    client: ClientId,
    /// Keeps the descriptor open.
    file: FileRef,
    /// Where the next byte is.
    offset: u64,
    /// Bytes still wanted; the buffer has room for them.
    left: u32,
    got: u32,
    buffer: Vec<u8>,
}

impl Ring {
    pub(super) fn read(
        &mut self,
        client: ClientId,
        file: FileRef,
        offset: u64,
        len: u32,
        mut buffer: Vec<u8>,
    ) {
        let answer = if self.reads.len() >= MAX_INDEX as usize {
            Some(Err(libc::ENOBUFS))
        } else if buffer.try_reserve(len as usize).is_err() {
            Some(Err(libc::ENOMEM))
        } else if len == 0 {
            Some(Ok(0))
        } else if file.raw_fd().is_none() {
            Some(read_now(&file, offset, len, &mut buffer))
        } else {
            None
        };
        if let Some(result) = answer {
            self.ready.push_back(Done::Read { client, buffer, result });
            return;
        }
        let key = self.reads.insert(ReadState { client, file, offset, left: len, got: 0, buffer });
        self.submit_read(key);
    }

    fn submit_read(&mut self, key: DefaultKey) {
        let Some(state) = self.reads.get_mut(key) else { return };
        // Checked by `read`; a file does not lose its descriptor.
        let fd = state.file.raw_fd().unwrap_or(-1);
        let room = state.buffer.spare_capacity_mut();
        let len = state.left.min(u32::try_from(room.len()).unwrap_or(u32::MAX));
        let read = opcode::Read::new(types::Fd(fd), room.as_mut_ptr().cast(), len)
            .offset(state.offset)
            .build()
            .user_data(Token::of_key(Kind::Read, key).pack());
        // SAFETY: `len` bytes are free at the end of the buffer, whose memory is on the heap and is not touched before
        // the completion; the ring waits for its reads before it ends.
        unsafe { self.queue.push(read) };
    }

    pub(super) fn on_read(&mut self, token: Token, result: i32, dones: &mut Vec<Done>) {
        let key = token.key();
        let Some(state) = self.reads.get_mut(key) else { return };
        let result = match u32::try_from(result) {
            Ok(read) => {
                let read = read.min(state.left);
                // SAFETY: the kernel has written `read` bytes into the spare capacity, which was at least `left`.
                unsafe { state.buffer.set_len(state.buffer.len() + read as usize) };
                state.got += read;
                state.left -= read;
                state.offset += u64::from(read);
                if read > 0 && state.left > 0 && !self.closing {
                    return self.submit_read(key);
                }
                Ok(state.got)
            }
            Err(_) if matches!(-result, libc::EINTR | libc::EAGAIN) && !self.closing => {
                return self.submit_read(key);
            }
            Err(_) => Err(-result),
        };
        let Some(state) = self.reads.remove(key) else { return };
        dones.push(Done::Read { client: state.client, buffer: state.buffer, result });
    }
}

/// A file without a descriptor is memory: reading it does not wait.
fn read_now(file: &FileRef, offset: u64, len: u32, buffer: &mut Vec<u8>) -> Result<u32, i32> {
    let start = buffer.len();
    buffer.resize(start + len as usize, 0);
    let read = file.read_at(offset, &mut buffer[start..]);
    let got = read.as_ref().map_or(0, |got| (*got).min(len as usize));
    buffer.truncate(start + got);
    read.map(|_| got as u32).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
}
