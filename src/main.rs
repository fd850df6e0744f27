//! Entry point.

use std::ffi::OsString;
use std::path::Path;

#[expect(clippy::disallowed_methods, reason = "the one place that ends the process")]
fn main() {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let called_fly = args.first().is_some_and(|name| Path::new(name).file_name().is_some_and(|n| n == "fly"));
    if called_fly {
        std::process::exit(whistlestop::cli::fly::main(args));
    }
    if args.get(1).is_some_and(|word| word == "fly") {
        let name = args.remove(0);
        args[0] = [name.as_os_str(), "fly".as_ref()].join(" ".as_ref());
        std::process::exit(whistlestop::cli::fly::main(args));
    }
}
