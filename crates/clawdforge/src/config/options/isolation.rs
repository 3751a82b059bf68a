//! What keeps agents apart.

use clawdforge_core::isolation::Isolation;

use super::{Group, Opt, Spec, V0_2, since_0_2, spec};
use crate::config::kinds::{Choice, Maybe, Paths, Switch, Users};

pub static ISOLATION_MODE: Opt<Choice<Option<Isolation>>> = Opt {
    spec: Spec {
        since: V0_2,
        ..spec(
            Group::Isolation,
            "isolation_mode",
            &["CLAWDFORGE_ISOLATION_MODE"],
            "auto",
            "What keeps agents apart: `landlock` (files, signals, system calls), `uid` (the same, and a user of its own for every app; needs root and `isolation_users`), `namespaces` (a view of files and processes of its own as well, and users where `isolation_users` names some), `off`, or `auto`, the strongest that can be made.",
        )
    },
    kind: Choice(&[
        ("auto", None),
        ("namespaces", Some(Isolation::Namespaces)),
        ("uid", Some(Isolation::Uid)),
        ("landlock", Some(Isolation::Landlock)),
        ("off", Some(Isolation::Off)),
    ]),
};

pub static ISOLATION_REQUIRE: Opt<Choice<Isolation>> = Opt {
    spec: Spec {
        since: V0_2,
        ..spec(
            Group::Isolation,
            "isolation_require",
            &["CLAWDFORGE_ISOLATION_REQUIRE"],
            "landlock",
            "The weakest isolation, as measured at the start, with which the service starts; `uid` demands users for apps, with namespaces or without.",
        )
    },
    kind: Choice(&[
        ("namespaces", Isolation::Namespaces),
        ("uid", Isolation::Uid),
        ("landlock", Isolation::Landlock),
        ("off", Isolation::Off),
    ]),
};

pub static ISOLATION_USERS: Opt<Maybe<Users>> = Opt {
    spec: Spec {
        since: V0_2,
        ..spec(
            Group::Isolation,
            "isolation_users",
            &["CLAWDFORGE_ISOLATION_USERS"],
            "",
            "The users that a service of root's runs agents as, one for each app, each app with one of its own.",
        )
    },
    kind: Maybe(Users),
};

pub static ISOLATION_READ: Opt<Paths> = Opt {
    spec: since_0_2(
        Group::Isolation,
        "isolation_read",
        &["CLAWDFORGE_ISOLATION_READ"],
        "",
        "Files and directories that every agent may read and run, beside the system's programs and its own.",
    ),
    kind: Paths,
};

pub static ISOLATION_WRITE: Opt<Paths> = Opt {
    spec: since_0_2(
        Group::Isolation,
        "isolation_write",
        &["CLAWDFORGE_ISOLATION_WRITE"],
        "",
        "Files and directories that every agent may write, beside its workspace and its home; every app reaches what another one leaves there.",
    ),
    kind: Paths,
};

pub static ISOLATION_OFF_AS_ROOT: Opt<Switch> = Opt {
    spec: since_0_2(
        Group::Isolation,
        "isolation_off_as_root",
        &["CLAWDFORGE_ISOLATION_OFF_AS_ROOT"],
        "false",
        "Lets a service of root's start with `isolation_mode = \"off\"`: every prompt is then a shell of root's.",
    ),
    kind: Switch,
};
