//! The command line: one subcommand a file.

pub mod fly;

use std::ffi::OsString;
use std::path::Path;

/// Runs the program with these arguments and gives its exit status.
pub fn main(mut args: Vec<OsString>) -> i32 {
    let called_fly = args.first().is_some_and(|name| Path::new(name).file_name().is_some_and(|n| n == "fly"));
    if called_fly {
        return fly::main(args);
    }
    if args.get(1).is_some_and(|word| word == "fly") {
        let name = args.remove(0);
        args[0] = [name.as_os_str(), "fly".as_ref()].join(" ".as_ref());
        return fly::main(args);
    }
    2
}
