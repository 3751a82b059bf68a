//! Which places a program needs, told from where it is and from its environment.
//!
//! Links are resolved: the kernel judges the place itself, not the way there. What is not there is left out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::Sandbox;
use super::policy::{Access, Rule};
use crate::spec::SpawnSpec;

/// Programs, libraries and what belongs to them: the same for every user of a machine, and no secret.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/run/current-system",
    // Certificates, where distributions keep them outside of /etc and /usr.
    "/var/lib/ca-certificates",
    "/var/lib/pki",
    // Who a process is, and what there is of processors and memory. Of other processes this shows names and
    // arguments; what is in them is another question to the kernel, which it refuses.
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
];

/// The parts of /etc that programs read: names, addresses, certificates, loader, shells, time. Not its keys,
/// passwords and services.
const ETC: &[&str] = &[
    "alpine-release",
    "alternatives",
    "bash.bashrc",
    "bashrc",
    "bindresvport.blacklist",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "curlrc",
    "debian_version",
    "default/locale",
    "environment.d",
    "fedora-release",
    "fonts",
    "gai.conf",
    "gitattributes",
    "gitconfig",
    "group",
    "host.conf",
    "hostname",
    "hosts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld.so.preload",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "mime.types",
    "netconfig",
    "networks",
    "npmrc",
    "nsswitch.conf",
    "openssl",
    "os-release",
    "passwd",
    "pip.conf",
    "pki",
    "profile",
    "profile.d",
    "protocols",
    "redhat-release",
    "resolv.conf",
    "rpc",
    "services",
    "shells",
    "skel",
    "ssh/ssh_config",
    "ssh/ssh_config.d",
    "ssh/ssh_known_hosts",
    "ssl",
    "static",
    "terminfo",
    "timezone",
    "wgetrc",
    "xattr.conf",
    "zsh",
];

/// Devices that hold nothing.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Variables that name files of trust, by which programs find certificates outside of the usual places.
pub const READ_BY_VARIABLE: &[&str] =
    &["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// Bytes of a script's first line: the kernel reads no more.
const INTERPRETER_BYTES_MAX: u64 = 256;

/// How deep below a broad root the private directory may lie. Deeper, the root is left out as a whole.
const DETOURS_MAX: usize = 32;

/// What every program gets.
pub(super) fn of_the_system() -> Vec<Rule> {
    let etc = ETC.iter().map(|part| Path::new("/etc").join(part));
    let read = SYSTEM.iter().map(PathBuf::from).chain(etc).filter_map(|path| rule(&path, Access::Read));
    read.chain(DEVICES.iter().filter_map(|path| rule(Path::new(path), Access::Use))).collect()
}

/// Everything a sandboxed program may reach, each place once.
pub(super) fn rules(sandbox: &Sandbox, spec: &SpawnSpec) -> Vec<Rule> {
    let confinement = &sandbox.confinement;
    let mut read: Vec<PathBuf> = confinement.read.iter().chain(&sandbox.read).cloned().collect();
    let search = spec.env.get(OsStr::new("PATH")).map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    let search: Vec<PathBuf> = search.unwrap_or_default().into_iter().filter(|folder| folder.is_absolute()).collect();
    for program in std::iter::once(&spec.program).chain(&sandbox.programs) {
        read.extend(found(program, &search).into_iter().flat_map(|program| of_program(&program, &confinement.private)));
    }
    read.extend(search.iter().flat_map(|folder| of_search_folder(folder)));
    read.extend(READ_BY_VARIABLE.iter().filter_map(|name| spec.env.get(OsStr::new(name)).map(PathBuf::from)));
    let write = confinement.write.iter().chain(&sandbox.write);

    let mut places: BTreeMap<PathBuf, Access> = BTreeMap::new();
    let wanted = read.iter().map(|path| (path, Access::Read)).chain(write.map(|path| (path, Access::Write)));
    for rule in wanted.filter_map(|(path, access)| rule(path, access)) {
        for path in around(&confinement.private, rule.path) {
            let access = places.entry(path).or_insert(rule.access);
            *access = rule.access.max(*access);
        }
    }
    let own = places.into_iter().map(|(path, access)| Rule { path, access });
    confinement
        .system
        .iter()
        .filter(|rule| !can_contain(&rule.path, &confinement.private))
        .cloned()
        .chain(own)
        .collect()
}

/// The ways to what a sandboxed program may reach, where they lead over links: as they are said, not as they lead.
pub(super) fn ways(sandbox: &Sandbox, spec: &SpawnSpec) -> Vec<PathBuf> {
    let confinement = &sandbox.confinement;
    let search: Vec<PathBuf> =
        spec.env.get(OsStr::new("PATH")).map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    let programs = std::iter::once(&spec.program).chain(&sandbox.programs);
    let named = confinement.read.iter().chain(&confinement.write).chain(&sandbox.read).chain(&sandbox.write);
    let by_variable = READ_BY_VARIABLE.iter().filter_map(|name| spec.env.get(OsStr::new(name)).map(PathBuf::from));
    let said = programs.chain(named).cloned().chain(search).chain(by_variable).chain([spec.cwd.clone()]);
    said.filter(|way| way.is_absolute() && way.canonicalize().is_ok_and(|real| real != *way)).collect()
}

/// Whether `inner` is `outer` or below it, by name.
#[must_use]
pub fn can_contain(outer: &Path, inner: &Path) -> bool {
    inner.starts_with(outer)
}

/// A root without the private directory: itself where that lies elsewhere or above it; else what lies beside
/// the way there, as it is now.
fn around(private: &Path, root: PathBuf) -> Vec<PathBuf> {
    // The whole file system is never meant.
    if root == private || root.parent().is_none() {
        return Vec::new();
    }
    if !can_contain(&root, private) {
        return vec![root];
    }
    let mut beside = Vec::new();
    let mut here = root;
    for _ in 0..DETOURS_MAX {
        if here == private {
            return beside;
        }
        let Ok(entries) = std::fs::read_dir(&here) else { return beside };
        let mut next = None;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if can_contain(&path, private) {
                next = Some(path);
            } else if path.symlink_metadata().is_ok_and(|found| !found.is_symlink()) {
                // What a link leads to has a place of its own.
                beside.push(path);
            }
        }
        let Some(next) = next else { return beside };
        here = next;
    }
    Vec::new()
}

fn rule(path: &Path, access: Access) -> Option<Rule> {
    path.is_absolute().then(|| path.canonicalize().ok()).flatten().map(|path| Rule { path, access })
}

/// Where a program is: by its path, or in the first folder of the search path that has it.
fn found(program: &Path, search: &[PathBuf]) -> Option<PathBuf> {
    if program.is_absolute() {
        return Some(program.to_owned());
    }
    search.iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// What belongs to a program: its package or its folder, and its interpreter's.
fn of_program(program: &Path, private: &Path) -> Vec<PathBuf> {
    let Ok(file) = program.canonicalize() else { return Vec::new() };
    let mut roots = vec![of_file(&file, private)];
    if let Some(interpreter) = interpreter(&file).and_then(|path| path.canonicalize().ok()) {
        roots.push(of_file(&interpreter, private));
    }
    roots
}

/// Of a file in an installation of npm's all packages, for they use each other; else its folder. A file that
/// lies openly in or above the private directory comes alone.
fn of_file(file: &Path, private: &Path) -> PathBuf {
    let mut packages = PathBuf::new();
    for component in file.components() {
        packages.push(component);
        if component == Component::Normal(OsStr::new("node_modules")) {
            return packages;
        }
    }
    match file.parent() {
        Some(folder) if !can_contain(folder, private) && folder.parent().is_some() => folder.to_owned(),
        _ => file.to_owned(),
    }
}

/// A folder of programs, and the libraries beside it where it is a `bin`.
fn of_search_folder(folder: &Path) -> Vec<PathBuf> {
    let mut roots = vec![folder.to_owned()];
    if folder.file_name() == Some(OsStr::new("bin")) {
        roots.extend(folder.parent().map(|prefix| prefix.join("lib")));
    }
    roots
}

/// The program that a script's first line names.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(script).ok()?.take(INTERPRETER_BYTES_MAX).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(word)))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::mark::TreeMark;
    use crate::sandbox::{Confinement, Helper};
    use crate::spec::StdinMode;

    /// A home with a data directory in it, as somebody has who tries the service in a folder of theirs.
    struct Ground {
        dir: tempfile::TempDir,
    }

    impl Ground {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for folder in ["home/src/data/sessions/s1/work", "home/.claude", "home/src/other", "tools/bin", "tools/lib"]
            {
                fs::create_dir_all(dir.path().join(folder)).unwrap();
            }
            Self { dir }
        }

        fn path(&self, place: &str) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join(place)
        }

        fn file(&self, place: &str, text: &str) -> PathBuf {
            let path = self.path(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }

        fn rules(&self, program: &Path, write: &[PathBuf]) -> BTreeMap<PathBuf, Access> {
            let helper = Helper { program: "/x".into(), launch: "l".into(), attack: "a".into() };
            let confinement = Confinement::new(helper, &self.path("home/src/data"), Vec::new(), Vec::new());
            let sandbox = Sandbox { write: write.to_vec(), ..Sandbox::of(&Arc::new(confinement)) };
            let spec = SpawnSpec {
                program: program.to_owned(),
                args: Vec::new(),
                env: BTreeMap::from([("PATH".into(), self.path("tools/bin").into_os_string())]),
                cwd: PathBuf::from("/"),
                mark: TreeMark::new("test").unwrap(),
                stdin: StdinMode::Null,
                sandbox: None,
            };
            rules(&sandbox, &spec).into_iter().map(|rule| (rule.path, rule.access)).collect()
        }
    }

    /// What the rules let a program do at a place.
    fn at(rules: &BTreeMap<PathBuf, Access>, place: &Path) -> Option<Access> {
        place.ancestors().filter_map(|above| rules.get(above)).max().copied()
    }

    #[test]
    fn a_home_around_the_data_directory_is_opened_without_it() {
        let ground = Ground::new();
        let workspace = ground.path("home/src/data/sessions/s1/work");
        let rules = ground.rules(Path::new("/bin/sh"), &[ground.path("home"), workspace.clone()]);
        for open in ["home/.claude", "home/src/other", "home/src/data/sessions/s1/work"] {
            assert_eq!(at(&rules, &ground.path(open)), Some(Access::Write), "{open}");
        }
        for shut in ["home/src/data", "home/src/data/sessions", "home/src/data/db", "home", "home/src"] {
            assert_eq!(at(&rules, &ground.path(shut)), None, "{shut}");
        }
    }

    #[test]
    fn neither_the_data_directory_nor_the_whole_machine_is_ever_opened() {
        let ground = Ground::new();
        fs::create_dir(ground.path("links")).unwrap();
        std::os::unix::fs::symlink(ground.path("home/src/data"), ground.path("links/data")).unwrap();
        let asked = [ground.path("home/src/data"), ground.path("links/data"), PathBuf::from("/")];
        let rules = ground.rules(Path::new("/bin/sh"), &asked);
        assert_eq!(at(&rules, &ground.path("home/src/data/db")), None);
        assert_eq!(rules.get(Path::new("/")), None);
        assert_eq!(at(&rules, Path::new("/etc/shadow")), None);
    }

    #[test]
    fn a_program_is_readable_with_its_packages_and_its_interpreter() {
        let ground = Ground::new();
        let interpreter = ground.file("node/bin/node", "");
        let script = format!("#! {} --flag\n", interpreter.display());
        let program = ground.file("app/node_modules/@scope/agent/cli.js", &script);
        ground.file("app/node_modules/dependency/index.js", "");
        ground.file("app/secret", "");
        let rules = ground.rules(&program, &[]);
        for open in ["app/node_modules/dependency/index.js", "node/bin/node", "tools/bin", "tools/lib"] {
            assert_eq!(at(&rules, &ground.path(open)), Some(Access::Read), "{open}");
        }
        assert_eq!(at(&rules, &ground.path("app/secret")), None);
    }

    #[test]
    fn a_program_in_the_data_directory_is_readable_and_nothing_around_it() {
        let ground = Ground::new();
        let bare = ground.file("home/src/data/agent", "");
        let installed = ground.file("home/src/data/agents/x/node_modules/a/bin", "");
        let above = ground.file("home/src/tool", "");
        for program in [&bare, &installed, &above] {
            let rules = ground.rules(program, &[]);
            assert_eq!(at(&rules, program), Some(Access::Read));
            assert_eq!(at(&rules, &ground.path("home/src/data/db")), None, "{}", program.display());
            assert_eq!(at(&rules, &ground.path("home/src/data/agents/y")), None);
        }
    }

    #[test]
    fn a_program_by_name_is_found_where_the_search_path_has_it() {
        let ground = Ground::new();
        let found_there = ground.file("tools/bin/agent", "");
        assert_eq!(
            found(Path::new("agent"), &[PathBuf::from("/nowhere"), ground.path("tools/bin")]),
            Some(found_there)
        );
        let env: OsString = "x".into();
        assert_eq!(found(Path::new(&env), &[ground.path("tools/bin")]), None);
    }
}
