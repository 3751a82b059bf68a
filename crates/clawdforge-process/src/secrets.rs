//! Keeping what this process knows from its neighbours.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Lets no other process of the same user look into this one: its memory, its environment, its open files.
/// No core dump is written either. Children are as they would be: the kernel resets it with their exec.
///
/// # Errors
/// When the kernel refuses, which none does.
pub fn hide_this_process() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Takes out of this process's environment every variable that `keep` does not accept, so that nothing it
/// starts or runs finds them there. The kernel's own copy, which `/proc/PID/environ` shows, is overwritten.
///
/// Must be called before there is a second thread.
pub fn forget_environment(keep: impl Fn(&OsStr) -> bool) {
    #[expect(clippy::disallowed_methods, reason = "what is forgotten must be listed; no value is looked at")]
    let names: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).filter(|name| !keep(name)).collect();
    for name in names {
        overwrite(&name);
        #[expect(unsafe_code, reason = "taking a variable out is sound only while nobody else reads the environment")]
        // SAFETY: by this function's contract there is no other thread.
        unsafe {
            std::env::remove_var(name);
        }
    }
}

/// Overwrites the value of a variable where the process was given it.
fn overwrite(name: &OsStr) {
    let Ok(name) = CString::new(name.as_bytes()) else { return };
    #[expect(unsafe_code, reason = "no safe wrapper gives the place of a variable")]
    // SAFETY: `getenv` gives null or a string that ends with a zero byte and lies in memory of this process
    // that may be written: the kernel put it on the stack, or the C library on the heap. By the contract of
    // the caller nobody else reads or changes it meanwhile. Exactly its bytes are overwritten.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if !value.is_null() {
            let length = libc::strlen(value);
            std::ptr::write_bytes(value, b'*', length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_process_is_closed_to_others_of_its_user() {
        hide_this_process().unwrap();
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
