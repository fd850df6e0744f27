//! To be filled.
pub mod init;
