//! Which places a program needs, told from where it is and from its environment.
//!
//! Links are resolved: the kernel judges the place itself, not the way there. What is not there is left out. Links that
//! agents can make lead nowhere but to what is open to them anyhow: a place to write by such a link is refused with the
//! whole sandbox, a place to read is left out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::Sandbox;
use super::policy::{Access, Rule};
use super::way::Way;
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
/// passwords and services; private keys lie right beside certificates, so those folders are named one by one.
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
    "openssl/cert.pem",
    "openssl/certs",
    "openssl/openssl.cnf",
    "os-release",
    "passwd",
    "pip.conf",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/ct_log_list.cnf",
    "pki/tls/openssl.cnf",
    "pki/tls/openssl.d",
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
    "ssl/ca-bundle.pem",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/ct_log_list.cnf",
    "ssl/openssl.cnf",
    "ssl/openssl.cnf.d",
    "ssl/openssl.d",
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
///
/// # Errors
/// When a place to write is named by a path that agents have bent; the message names it.
pub(super) fn rules(sandbox: &Sandbox, spec: &SpawnSpec) -> io::Result<Vec<Rule>> {
    let confinement = &sandbox.confinement;
    let private = &confinement.private;
    let writable = writable(confinement.write.iter().chain(&sandbox.write), private)?;
    let ground = Ground { writable: &writable, private };
    let mut read: Vec<PathBuf> = confinement.read.iter().chain(&sandbox.read).cloned().collect();
    let search = spec.env.get(OsStr::new("PATH")).map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    let search: Vec<PathBuf> = search.unwrap_or_default().into_iter().filter(|folder| folder.is_absolute()).collect();
    for program in std::iter::once(&spec.program).chain(&sandbox.programs) {
        read.extend(found(program, &search).into_iter().flat_map(|program| ground.of_program(&program)));
    }
    read.extend(search.iter().flat_map(|folder| of_search_folder(folder)));
    read.extend(READ_BY_VARIABLE.iter().filter_map(|name| spec.env.get(OsStr::new(name)).map(PathBuf::from)));
    let read = read.iter().filter_map(|path| ground.readable(path)).map(|path| (path, Access::Read));

    let mut places: BTreeMap<PathBuf, Access> = BTreeMap::new();
    for (root, wanted) in read.chain(writable.iter().map(|path| (path.clone(), Access::Write))) {
        for path in around(private, root) {
            let access = places.entry(path).or_insert(wanted);
            *access = wanted.max(*access);
        }
    }
    let own = places.into_iter().map(|(path, access)| Rule { path, access });
    Ok(confinement.system.iter().filter(|rule| !can_contain(&rule.path, private)).cloned().chain(own).collect())
}

/// Where the named paths lead, for writing. Links are the operator's where no agent can write, and are followed. One that
/// an agent can have made may lead to what is open without it, and nowhere else.
fn writable<'a>(named: impl Iterator<Item = &'a PathBuf>, private: &Path) -> io::Result<Vec<PathBuf>> {
    let gone_along = named.filter(|path| path.is_absolute()).filter_map(|path| {
        let way = Way::along(path);
        let place = way.place.clone().filter(|place| is_ever_opened(place, private))?;
        Some((path, way, place))
    });
    let gone_along: Vec<(&PathBuf, Way, PathBuf)> = gone_along.collect();
    let all: Vec<PathBuf> = gone_along.iter().map(|(_, _, place)| place.clone()).collect();
    let (bent, straight): (Vec<_>, Vec<_>) = gone_along.into_iter().partition(|(_, way, _)| way.turns_in(&all));
    let mut open = Vec::new();
    for (path, _, place) in straight {
        if !is_below(private, &place) || names_it_below(path, &place, private) {
            open.push(place);
        } else {
            return Err(refused(path, "leads to a place in the data directory that is not named"));
        }
    }
    match bent.iter().find(|(_, _, place)| !is_open_in(&open, place, private)) {
        Some((path, _, _)) => {
            Err(refused(path, "leads over a link, made where agents can write, to a place that is not theirs"))
        }
        None => Ok(open),
    }
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("`{}` {why}", path.display()))
}

/// The data directory and the whole file system are never meant.
fn is_ever_opened(place: &Path, private: &Path) -> bool {
    place != private && place.parent().is_some()
}

fn is_below(outer: &Path, inner: &Path) -> bool {
    inner != outer && can_contain(outer, inner)
}

/// Whether a path says by itself, and by no link, which place of the data directory it means.
fn names_it_below(path: &Path, place: &Path, private: &Path) -> bool {
    let Ok(meant) = place.strip_prefix(private) else { return false };
    path.ancestors().any(|above| {
        path.strip_prefix(above).is_ok_and(|said| said == meant) && Way::along(above).place.as_deref() == Some(private)
    })
}

/// Whether a place is open by one of these roots. One around the data directory opens nothing in there.
fn is_open_in(roots: &[PathBuf], place: &Path, private: &Path) -> bool {
    roots.iter().any(|root| can_contain(root, place) && (can_contain(private, root) || !can_contain(private, place)))
}

/// What decides whether a path to read is believed.
struct Ground<'a> {
    /// Where the agent, and others before it, may write.
    writable: &'a [PathBuf],
    private: &'a Path,
}

impl Ground<'_> {
    /// Where a path leads, for reading; nothing where it is not there, is open for writing over a link in there, or is
    /// what an agent wants read.
    fn readable(&self, path: &Path) -> Option<PathBuf> {
        if !path.is_absolute() {
            return None;
        }
        let way = Way::along(path);
        let place = way.place.clone()?;
        if !way.turns_in(self.writable) {
            return Some(place);
        }
        if !is_open_in(self.writable, &place, self.private) {
            tracing::warn!(path = %path.display(), "left out of a sandbox: it leads over a link that agents can make");
        }
        None
    }

    /// What belongs to a program: its package or its folder, and its interpreter's. A program that agents can write
    /// names no interpreter: it could name any place.
    fn of_program(&self, program: &Path) -> Vec<PathBuf> {
        let Some(file) = self.readable(program) else { return Vec::new() };
        let mut roots = vec![of_file(&file, self.private)];
        if !is_open_in(self.writable, &file, self.private) {
            let interpreter = interpreter(&file).and_then(|path| self.readable(&path));
            roots.extend(interpreter.map(|interpreter| of_file(&interpreter, self.private)));
        }
        roots
    }
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
    if !is_ever_opened(&root, private) {
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
    struct Home {
        dir: tempfile::TempDir,
    }

    impl Home {
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
            self.try_rules(program, write).unwrap()
        }

        fn try_rules(&self, program: &Path, write: &[PathBuf]) -> io::Result<BTreeMap<PathBuf, Access>> {
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
            Ok(rules(&sandbox, &spec)?.into_iter().map(|rule| (rule.path, rule.access)).collect())
        }
    }

    /// What the rules let a program do at a place.
    fn at(rules: &BTreeMap<PathBuf, Access>, place: &Path) -> Option<Access> {
        place.ancestors().filter_map(|above| rules.get(above)).max().copied()
    }

    #[test]
    fn a_home_around_the_data_directory_is_opened_without_it() {
        let ground = Home::new();
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
        let ground = Home::new();
        fs::create_dir(ground.path("links")).unwrap();
        std::os::unix::fs::symlink(ground.path("home/src/data"), ground.path("links/data")).unwrap();
        let asked = [ground.path("home/src/data"), ground.path("links/data"), PathBuf::from("/")];
        let rules = ground.rules(Path::new("/bin/sh"), &asked);
        assert_eq!(at(&rules, &ground.path("home/src/data/db")), None);
        assert_eq!(rules.get(Path::new("/")), None);
        assert_eq!(at(&rules, Path::new("/etc/shadow")), None);
    }

    /// That these roots are refused, by the last one's name.
    fn is_refused(ground: &Home, write: &[PathBuf]) {
        let error = ground.try_rules(Path::new("/bin/sh"), write).unwrap_err();
        let name = write.last().unwrap().display().to_string();
        assert!(error.to_string().contains(&name), "{error}");
    }

    #[test]
    fn an_agent_chooses_with_no_link_what_its_next_sandbox_opens() {
        let ground = Home::new();
        fs::create_dir_all(ground.path("home/src/data/homes/1/claude")).unwrap();
        let (own, records) = (ground.path("home/src/data/homes/1/claude"), "home/src/data/homes/1/claude/.acpx");
        for target in ["home/src/data/sessions", "home/src/other", "home", "tools"] {
            let _ = fs::remove_file(ground.path(records));
            std::os::unix::fs::symlink(ground.path(target), ground.path(records)).unwrap();
            is_refused(&ground, &[own.clone(), ground.path(records)]);
        }
        fs::remove_file(ground.path(records)).unwrap();
        fs::create_dir(ground.path(records)).unwrap();
        let rules = ground.rules(Path::new("/bin/sh"), &[own, ground.path(records)]);
        assert_eq!(at(&rules, &ground.path(records)), Some(Access::Write));
    }

    #[test]
    fn nor_does_one_in_a_home_that_agents_share() {
        let ground = Home::new();
        let (shared, folder) = (ground.path("home"), ground.path("home/.config"));
        // A folder on the way may be the link as well.
        for (link, target) in [
            ("home/.config", "home/src/data/sessions"),
            ("home/.config", "tools"),
            ("home/.claude/deep", "home/src/data/sessions"),
        ] {
            std::os::unix::fs::symlink(ground.path(target), ground.path(link)).unwrap();
            let named = if link == "home/.config" { folder.clone() } else { ground.path("home/.claude/deep/s1") };
            is_refused(&ground, &[shared.clone(), named]);
            fs::remove_file(ground.path(link)).unwrap();
        }
    }

    #[test]
    fn a_link_in_a_shared_home_that_stays_in_it_changes_nothing() {
        let ground = Home::new();
        std::os::unix::fs::symlink("src/other", ground.path("home/.config")).unwrap();
        let write = [ground.path("home"), ground.path("home/.config")];
        let rules = ground.rules(Path::new("/bin/sh"), &write);
        assert_eq!(at(&rules, &ground.path("home/src/other")), Some(Access::Write));
        assert_eq!(at(&rules, &ground.path("home/src/data/sessions")), None);
    }

    #[test]
    fn the_operators_links_are_followed_but_to_nothing_unnamed_in_the_data_directory() {
        let ground = Home::new();
        std::os::unix::fs::symlink(ground.path("home/src/data"), ground.path("data")).unwrap();
        std::os::unix::fs::symlink(ground.path("tools"), ground.path("extra")).unwrap();
        std::os::unix::fs::symlink(ground.path("home/src/data/sessions"), ground.path("unnamed")).unwrap();
        let write = [ground.path("data/sessions/s1/work"), ground.path("extra")];
        let rules = ground.rules(Path::new("/bin/sh"), &write);
        for open in ["home/src/data/sessions/s1/work", "tools"] {
            assert_eq!(at(&rules, &ground.path(open)), Some(Access::Write), "{open}");
        }
        is_refused(&ground, &[ground.path("unnamed")]);
    }

    #[test]
    fn nothing_is_read_because_an_agent_links_or_writes_to_it() {
        let ground = Home::new();
        let secret = ground.file("keys/secret", "");
        let program = ground.path("home/agent");
        std::os::unix::fs::symlink(&secret, &program).unwrap();
        let write = [ground.path("home")];
        assert_eq!(at(&ground.rules(&program, &write), &secret), None, "a link for a program");
        assert_eq!(at(&ground.rules(&program, &[]), &secret), Some(Access::Read), "of the operator's");
        fs::remove_file(&program).unwrap();
        fs::write(&program, format!("#!{}\n", secret.display())).unwrap();
        assert_eq!(at(&ground.rules(&program, &write), &secret), None, "an interpreter");
        assert_eq!(at(&ground.rules(&program, &[]), &secret), Some(Access::Read), "of the operator's");
    }

    #[test]
    fn certificates_are_opened_without_the_keys_beside_them() {
        let etc = |part: &&str| Path::new("/etc").join(part);
        for private in ["ssl/private", "pki/tls/private", "openssl/private", "pki/nssdb", "pki/CA/private"] {
            assert!(!ETC.iter().map(etc).any(|open| can_contain(&open, &etc(&private))), "{private}");
        }
        // Where the links of the folder of certificates lead, on Debian.
        for open in ["/usr/share/ca-certificates", "/usr/local/share/ca-certificates"] {
            assert!(SYSTEM.iter().any(|above| can_contain(Path::new(above), Path::new(open))), "{open}");
        }
        let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if let Ok(real) = certificates.canonicalize() {
            assert!(of_the_system().iter().any(|rule| can_contain(&rule.path, &real)), "{}", real.display());
        }
    }

    #[test]
    fn a_program_is_readable_with_its_packages_and_its_interpreter() {
        let ground = Home::new();
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
        let ground = Home::new();
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
        let ground = Home::new();
        let found_there = ground.file("tools/bin/agent", "");
        assert_eq!(
            found(Path::new("agent"), &[PathBuf::from("/nowhere"), ground.path("tools/bin")]),
            Some(found_there)
        );
        let env: OsString = "x".into();
        assert_eq!(found(Path::new(&env), &[ground.path("tools/bin")]), None);
    }
}
