//! The terminal itself, for `hijack`: its size, when that changes, and its raw mode.

use std::io::IsTerminal;
use std::os::fd::AsRawFd;

use nix::sys::termios::{self, SetArg, Termios};

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
