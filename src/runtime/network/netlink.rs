//! The kernel's own protocol for links, addresses, routes and packet filters: messages with nested attributes.
//!
//! Spoken directly, so that nothing has to be installed and a change takes microseconds, not a program's start.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Length and type of an attribute.
const ATTRIBUTE: usize = 4;
/// Length of a message's header.
const HEADER: usize = 16;
const NESTED: u16 = 1 << 15;

/// One message that is being put together.
pub struct Message(Vec<u8>);

impl Message {
    /// Of a type, with flags besides `REQUEST` and `ACK`, and the fixed part that its type begins with.
    pub fn new(kind: u16, flags: i32, fixed: &[u8]) -> Message {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        // Number and sender are filled in when it is sent.
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        Message(bytes)
    }

    /// Without an answer, for the marks around a batch.
    pub fn unanswered(mut self) -> Message {
        let flags = (libc::NLM_F_REQUEST as u16).to_ne_bytes();
        self.0[6..8].copy_from_slice(&flags);
        self
    }

    /// An attribute of plain bytes.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.0.extend(((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.pad()
    }

    /// A text with its terminator.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// A number in the order of the network, as packet filters want it.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// An attribute that holds what `fill` puts in.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) -> &mut Self {
        let at = self.0.len();
        self.put(kind | NESTED, &[]);
        fill(self);
        let length = ((self.0.len() - at) as u16).to_ne_bytes();
        self.0[at..at + 2].copy_from_slice(&length);
        self
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self.pad()
    }

    fn pad(&mut self) -> &mut Self {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn answered(&self) -> bool {
        u16::from_ne_bytes([self.0[6], self.0[7]]) & libc::NLM_F_ACK as u16 != 0
    }

    fn finish(mut self, number: u32) -> Vec<u8> {
        let length = (self.0.len() as u32).to_ne_bytes();
        self.0[..4].copy_from_slice(&length);
        self.0[8..12].copy_from_slice(&number.to_ne_bytes());
        self.0
    }
}

/// A connection to the kernel, in the network namespace of the thread that opened it.
pub struct Socket(OwnedFd);

impl Socket {
    /// `NETLINK_ROUTE` or `NETLINK_NETFILTER`.
    pub fn open(protocol: i32) -> io::Result<Socket> {
        // SAFETY: plain integers; the result is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and is nobody else's.
        let socket = Socket(unsafe { OwnedFd::from_raw_fd(fd) });
        // A kernel that does not answer must not hold a step for ever.
        let patience = libc::timeval { tv_sec: 10, tv_usec: 0 };
        // SAFETY: a pointer to a whole timeval, with its length.
        unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const patience).cast(),
                size_of::<libc::timeval>() as u32,
            );
        }
        Ok(socket)
    }

    /// Sends messages at once and waits for all their answers; the first error is returned, with the message's number.
    pub fn send(&self, messages: Vec<Message>) -> Result<(), (usize, io::Error)> {
        let mut wanted = messages.iter().filter(|m| m.answered()).count();
        let bytes: Vec<u8> =
            messages.into_iter().enumerate().flat_map(|(n, message)| message.finish(n as u32)).collect();
        self.write(&bytes).map_err(|e| (0, e))?;
        let mut failed = None;
        while wanted > 0 {
            for answer in self.read().map_err(|e| (0, e))? {
                if answer.kind != libc::NLMSG_ERROR as u16 {
                    continue;
                }
                wanted -= 1;
                let code = answer.body.get(..4).map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
                if code != 0 && failed.is_none() {
                    failed = Some((answer.number as usize, io::Error::from_raw_os_error(-code)));
                }
            }
            // A batch that fails is given up as a whole, and not every part is answered.
            if failed.is_some() {
                break;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Sends one message.
    pub fn ask(&self, message: Message) -> io::Result<()> {
        self.send(vec![message]).map_err(|(_, error)| error)
    }

    /// Asks for a list; what follows the header of each entry.
    pub fn list(&self, kind: u16, fixed: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let message = Message::new(kind, libc::NLM_F_DUMP, fixed).unanswered_dump();
        self.write(&message.finish(1))?;
        let mut all = Vec::new();
        loop {
            for answer in self.read()? {
                match i32::from(answer.kind) {
                    libc::NLMSG_DONE => return Ok(all),
                    libc::NLMSG_ERROR => {
                        let code = answer.body.get(..4).map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    _ => all.push(answer.body),
                }
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and length are those of a live buffer.
        let n = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn read(&self) -> io::Result<Vec<Answer>> {
        let mut buffer = vec![0u8; 64 << 10];
        let n = loop {
            // SAFETY: the pointer and length are those of a live buffer.
            let n = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if n >= 0 {
                break n as usize;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        };
        buffer.truncate(n);
        Ok(answers(&buffer))
    }
}

impl Message {
    /// A list ends by itself.
    fn unanswered_dump(mut self) -> Message {
        let flags = ((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes();
        self.0[6..8].copy_from_slice(&flags);
        self
    }
}

struct Answer {
    kind: u16,
    number: u32,
    body: Vec<u8>,
}

fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut found = Vec::new();
    while bytes.len() >= HEADER {
        let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if length < HEADER || length > bytes.len() {
            break;
        }
        found.push(Answer {
            kind: u16::from_ne_bytes([bytes[4], bytes[5]]),
            number: u32::from_ne_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            body: bytes[HEADER..length].to_vec(),
        });
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

/// The attributes in a part of a message: their types and values.
pub fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= ATTRIBUTE {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        if length < ATTRIBUTE || length > bytes.len() {
            break;
        }
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & !NESTED;
        found.push((kind, &bytes[ATTRIBUTE..length]));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let mut message = Message::new(1, 0, &[9; 4]);
        message.text(3, "ab").nest(4, |inner| {
            inner.number(1, 7).put(2, &[1, 2, 3, 4, 5]);
        });
        let bytes = message.finish(12);
        assert_eq!(bytes.len(), u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize);
        let outer = attributes(&bytes[HEADER + 4..]);
        assert_eq!(outer[0], (3, &b"ab\0"[..]));
        assert_eq!(attributes(outer[1].1), [(1, &[0, 0, 0, 7][..]), (2, &[1, 2, 3, 4, 5][..])]);
        assert_eq!(answers(&bytes)[0].number, 12);
    }

    #[test]
    fn the_kernel_lists_loopback() {
        let socket = Socket::open(libc::NETLINK_ROUTE).unwrap();
        let links = socket.list(libc::RTM_GETLINK, &[0; 16]).unwrap();
        let names: Vec<_> = links.iter().flat_map(|l| attributes(&l[16..])).filter(|(k, _)| *k == 3).collect();
        assert!(names.iter().any(|(_, name)| *name == b"lo\0"));
    }
}
