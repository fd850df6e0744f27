//! The client, with the commands and flags of fly.
