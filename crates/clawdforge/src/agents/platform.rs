//! Which of an agent's native packages fits this machine.

use std::fs::File;
use std::io::Read;

use anyhow::bail;

/// Bytes at the beginning of a program that hold the name of its loader: linkers put it right behind the headers.
const HEADER_BYTES_MAX: u64 = 4 * 1024;

/// A machine that agents have packages for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    cpu: Cpu,
    libc: Libc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cpu {
    X64,
    Arm64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Libc {
    Gnu,
    Musl,
}

impl Platform {
    /// Every platform there are packages for.
    #[cfg(test)]
    pub const ALL: [Self; 4] = [
        Self { cpu: Cpu::X64, libc: Libc::Gnu },
        Self { cpu: Cpu::X64, libc: Libc::Musl },
        Self { cpu: Cpu::Arm64, libc: Libc::Gnu },
        Self { cpu: Cpu::Arm64, libc: Libc::Musl },
    ];

    /// This machine. Reads the beginning of one file.
    ///
    /// # Errors
    /// On a machine that agents have no packages for.
    pub fn detect() -> anyhow::Result<Self> {
        let (os, cpu) = (std::env::consts::OS, std::env::consts::ARCH);
        let cpu = match (os, cpu) {
            ("linux", "x86_64") => Cpu::X64,
            ("linux", "aarch64") => Cpu::Arm64,
            _ => bail!("there are no agent packages for {os} on {cpu}; there are for linux on x86_64 and aarch64"),
        };
        // The system's own shell tells, not ourselves: we may be linked statically.
        let mut shell = Vec::new();
        let read = File::open("/bin/sh").and_then(|file| file.take(HEADER_BYTES_MAX).read_to_end(&mut shell));
        let libc = if read.is_ok() { libc_of(&shell) } else { Libc::Gnu };
        Ok(Self { cpu, libc })
    }

    /// A name with its placeholders replaced.
    pub fn fill(self, template: &str) -> String {
        let (arch, cpu) = match self.cpu {
            Cpu::X64 => ("x64", "x86_64"),
            Cpu::Arm64 => ("arm64", "aarch64"),
        };
        let (dash_musl, musl) = match self.libc {
            Libc::Gnu => ("", ""),
            Libc::Musl => ("-musl", "musl"),
        };
        let fill = [("{arch}", arch), ("{cpu}", cpu), ("{-musl}", dash_musl), ("{musl}", musl)];
        fill.into_iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// The C library that a program asks for by the name of its loader.
fn libc_of(program: &[u8]) -> Libc {
    let musl = b"/ld-musl-";
    if program.windows(musl.len()).any(|window| window == musl) { Libc::Musl } else { Libc::Gnu }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_machine() {
        let shown = Platform::ALL.map(|platform| platform.fill("a-{arch}{-musl} b{musl}-{arch} {cpu}"));
        assert_eq!(
            shown,
            [
                "a-x64 b-x64 x86_64",
                "a-x64-musl bmusl-x64 x86_64",
                "a-arm64 b-arm64 aarch64",
                "a-arm64-musl bmusl-arm64 aarch64"
            ]
        );
    }

    #[test]
    fn the_loader_tells_the_c_library() {
        assert_eq!(libc_of(b"\x7fELF\0/lib/ld-musl-x86_64.so.1\0"), Libc::Musl);
        assert_eq!(libc_of(b"\x7fELF\0/lib64/ld-linux-x86-64.so.2\0"), Libc::Gnu);
        assert_eq!(libc_of(b""), Libc::Gnu);
    }
}
