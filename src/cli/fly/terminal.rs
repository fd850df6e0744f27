//! The terminal itself: its size, its raw mode for `hijack`, and lines that are not shown while they are typed.

use std::io::{self, IsTerminal, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, LocalFlags, SetArg, SpecialCharacterIndices, Termios};

/// What the interrupt key (Ctrl-C) types where it does not interrupt.
const INTERRUPT: u8 = 3;
/// What the escape key types.
const ESCAPE: u8 = 27;

nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);

/// Columns and rows of stdout's terminal; `None` if it is none.
pub fn size() -> Option<(u16, u16)> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for as long as `stdout` lives, and `size` is what this request fills.
    let asked = unsafe { window_size(stdout.as_raw_fd(), &raw mut size) };
    asked.ok().map(|_| (size.ws_col, size.ws_row))
}

/// How long a line of help is: what fly goes by is the terminal that is typed at.
pub fn columns() -> usize {
    const USUAL: usize = 80;
    let stdin = std::io::stdin();
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for as long as `stdin` lives, and `size` is what this request fills.
    let asked = unsafe { window_size(stdin.as_raw_fd(), &raw mut size) };
    if asked.is_ok() && size.ws_col > 0 { size.ws_col.into() } else { USUAL }
}

/// Stdin without line editing, echo or signals, until it is dropped.
pub struct Raw(Termios);

impl Raw {
    /// Switches, if stdin is a terminal.
    pub fn enter() -> std::io::Result<Option<Raw>> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(&stdin)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
        Ok(Some(Raw(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Where the terminal has gone there is nothing to restore.
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Stdin without echo, until it is dropped. The interrupt key ends a line and not the process, which could not show
/// again what is typed next; so does the escape key.
pub struct Hidden(Option<Termios>);

impl Hidden {
    /// Switches, if stdin is a terminal.
    pub fn enter() -> io::Result<Hidden> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(Hidden(None));
        }
        let before = termios::tcgetattr(&stdin)?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        hidden.local_flags.insert(LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::IEXTEN);
        hidden.control_chars[SpecialCharacterIndices::VEOL as usize] = INTERRUPT;
        hidden.control_chars[SpecialCharacterIndices::VEOL2 as usize] = ESCAPE;
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &hidden)?;
        Ok(Hidden(Some(before)))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Where the terminal has gone there is nothing to restore.
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// Hands on each line typed on stdin, and `None` where no more come: at its end, or at the interrupt or escape key.
/// Reading stops when the answer is dropped, so that it takes nothing from whoever asks next.
pub fn typed_lines(mut to: impl FnMut(Option<String>) + Send + 'static) -> io::Result<PipeWriter> {
    let (stop, guard) = io::pipe()?;
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while let Some(bytes) = typed(&stop) {
            for byte in bytes {
                match byte {
                    INTERRUPT | ESCAPE => return to(None),
                    b'\n' => to(Some(take_text(&mut line))),
                    byte => line.push(byte),
                }
            }
        }
        if !line.is_empty() {
            to(Some(take_text(&mut line)));
        }
        to(None);
    });
    Ok(guard)
}

fn take_text(line: &mut Vec<u8>) -> String {
    String::from_utf8_lossy(&std::mem::take(line)).into_owned()
}

/// The next bytes of stdin; `None` at its end, or once `stop` is closed.
fn typed(stop: &PipeReader) -> Option<Vec<u8>> {
    let stdin = io::stdin();
    let mut ends = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut ends, PollTimeout::NONE) {
            Ok(_) => break,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
    if ends[1].any().unwrap_or(true) {
        return None;
    }
    // Not through the buffer of `std::io::stdin`: what was typed ahead belongs to the next question.
    let mut bytes = vec![0; 4096];
    let read = nix::unistd::read(stdin.as_fd(), &mut bytes).ok().filter(|n| *n > 0)?;
    bytes.truncate(read);
    Some(bytes)
}
