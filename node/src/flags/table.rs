//! Every flag, as data: its name, default, kind, and what this server does with it.

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`; no value means `true`.
    Bool,
    /// A whole number.
    Number,
}

/// What this server does with a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It takes effect.
    Served,
    /// It has no meaning here: accepted with a warning, because nothing is lost without it.
    Accepted,
    /// It would change what users rely on and is not served yet: refused unless it is left at the
    /// default.
    NotServed,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// Default value as text.
    pub default: &'static str,
    /// Kind of value.
    pub kind: Kind,
    /// What happens to it.
    pub mark: Mark,
    /// One line for `--help`.
    pub help: &'static str,
}

use Kind::{Bool, Number, Text};
use Mark::{Accepted, NotServed, Served};

const fn flag(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    mark: Mark,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        default,
        kind,
        mark,
        help,
    }
}

/// Every flag that is known, in the order of `--help`.
#[must_use]
pub fn flags() -> &'static [Flag] {
    FLAGS
}

const FLAGS: &[Flag] = &[
    // Trying it out: the short form.
    flag(
        "id",
        "",
        Text,
        Served,
        "short form: name of this node, for instance node1",
    ),
    flag(
        "port",
        "",
        Number,
        Served,
        "short form: client port; the peer port is 1000 higher",
    ),
    flag(
        "peers",
        "",
        Text,
        Served,
        "short form: host:port of the other nodes, comma-separated",
    ),
    flag(
        "host",
        "localhost",
        Text,
        Served,
        "short form: host name the other nodes reach us by",
    ),
    // Member.
    flag("name", "default", Text, Served, "name of this member"),
    flag(
        "data-dir",
        "",
        Text,
        Served,
        "directory of all data (default: ${name}.etcd)",
    ),
    flag(
        "listen-peer-urls",
        "http://localhost:2380",
        Text,
        Served,
        "where peers are served",
    ),
    flag(
        "listen-client-urls",
        "http://localhost:2379",
        Text,
        Served,
        "where clients are served",
    ),
    flag(
        "initial-advertise-peer-urls",
        "",
        Text,
        Served,
        "peer URLs told to the other members",
    ),
    flag(
        "advertise-client-urls",
        "",
        Text,
        Served,
        "client URLs told to clients",
    ),
    flag(
        "listen-metrics-urls",
        "",
        Text,
        Served,
        "health and metrics, and nothing else, over plain HTTP beside the client port",
    ),
    flag(
        "listen-admin",
        "",
        Text,
        Served,
        "host:port of the admin service (off unless given)",
    ),
    flag(
        "managed",
        "false",
        Bool,
        Served,
        "wait for Bootstrap or Join through the admin service",
    ),
    flag(
        "epoch",
        "0",
        Number,
        Served,
        "epoch of the cluster; data of an earlier one stays out (0: any)",
    ),
    flag(
        "settings-file",
        "",
        Text,
        Served,
        "file of name=value that wins over flags and is read again when it changes (log-level, \
         quota-backend-bytes, auto-compaction-mode, auto-compaction-retention)",
    ),
    // TLS of clients.
    flag(
        "cert-file",
        "",
        Text,
        Served,
        "certificate of the client port, PEM; needs https:// listen URLs",
    ),
    flag("key-file", "", Text, Served, "its private key"),
    flag(
        "trusted-ca-file",
        "",
        Text,
        Served,
        "CA of clients; each must then show a certificate",
    ),
    flag(
        "client-cert-auth",
        "false",
        Bool,
        Served,
        "clients must show a certificate of --trusted-ca-file",
    ),
    flag(
        "client-cert-optional",
        "false",
        Bool,
        Served,
        "clients may also show none",
    ),
    flag(
        "client-crl-file",
        "",
        Text,
        Served,
        "revoked client certificates",
    ),
    flag(
        "client-cert-allowed-hostname",
        "",
        Text,
        Served,
        "names of which a client's certificate must have one",
    ),
    // TLS between members, always mutual.
    flag(
        "peer-cert-file",
        "",
        Text,
        Served,
        "certificate of the peer port; needs https:// peer URLs",
    ),
    flag("peer-key-file", "", Text, Served, "its private key"),
    flag(
        "peer-trusted-ca-file",
        "",
        Text,
        Served,
        "CA of all members",
    ),
    flag(
        "peer-client-cert-auth",
        "false",
        Bool,
        Served,
        "always on with --peer-trusted-ca-file",
    ),
    flag(
        "peer-crl-file",
        "",
        Text,
        Served,
        "revoked member certificates",
    ),
    flag(
        "peer-client-cert-file",
        "",
        Text,
        Served,
        "certificate to dial members with",
    ),
    flag("peer-client-key-file", "", Text, Served, "its private key"),
    flag(
        "peer-cert-allowed-cn",
        "",
        Text,
        Served,
        "common name that members must have",
    ),
    flag(
        "peer-cert-allowed-hostname",
        "",
        Text,
        Served,
        "names of which a member's certificate must have one",
    ),
    // TLS of the admin service, always mutual.
    flag(
        "admin-cert-file",
        "",
        Text,
        Served,
        "certificate of the admin port; required with --peer-cert-file",
    ),
    flag("admin-key-file", "", Text, Served, "its private key"),
    flag(
        "admin-trusted-ca-file",
        "",
        Text,
        Served,
        "CA of those who may use the admin service",
    ),
    flag(
        "admin-cert-allowed-cn",
        "",
        Text,
        Served,
        "common name that callers of the admin service must have",
    ),
    // TLS of all ports.
    flag(
        "tls-min-version",
        "TLS1.2",
        Text,
        Served,
        "oldest version spoken: TLS1.2 or TLS1.3",
    ),
    flag(
        "tls-max-version",
        "",
        Text,
        Served,
        "newest version spoken: TLS1.2 or TLS1.3",
    ),
    flag(
        "cipher-suites",
        "",
        Text,
        Served,
        "suites of TLS 1.2, comma-separated (default: all that are secure)",
    ),
    // Cluster.
    flag(
        "initial-cluster",
        "",
        Text,
        Served,
        "name=peer-url of every first member",
    ),
    flag(
        "initial-cluster-state",
        "new",
        Text,
        Served,
        "new or existing",
    ),
    flag(
        "initial-cluster-token",
        "etcd-cluster",
        Text,
        Served,
        "tells clusters apart",
    ),
    flag(
        "strict-reconfig-check",
        "true",
        Bool,
        Served,
        "refuse changes that endanger the quorum",
    ),
    flag(
        "max-learners",
        "1",
        Number,
        Served,
        "most learners at any time",
    ),
    // Timing and limits.
    flag(
        "heartbeat-interval",
        "100",
        Number,
        Served,
        "heartbeat of a leader, ms",
    ),
    flag(
        "election-timeout",
        "1000",
        Number,
        Served,
        "election timeout, ms",
    ),
    flag(
        "snapshot-count",
        "10000",
        Number,
        Served,
        "applied entries before the log is trimmed",
    ),
    flag(
        "snapshot-catchup-entries",
        "5000",
        Number,
        Served,
        "entries kept for slow followers",
    ),
    flag(
        "quota-backend-bytes",
        "0",
        Number,
        Served,
        "most stored bytes in use; 0: 2 GiB, negative: none",
    ),
    flag(
        "auto-compaction-mode",
        "periodic",
        Text,
        Served,
        "what the retention counts: periodic (time) or revision",
    ),
    flag(
        "auto-compaction-retention",
        "0",
        Text,
        Served,
        "history to keep: 30m, 24 (hours), or a number of revisions; 0: all",
    ),
    flag(
        "max-request-bytes",
        "1572864",
        Number,
        Served,
        "largest request, bytes",
    ),
    flag(
        "max-txn-ops",
        "128",
        Number,
        Served,
        "most operations in a transaction",
    ),
    flag(
        "max-concurrent-streams",
        "4294967295",
        Number,
        Served,
        "streams of one connection",
    ),
    // Logs.
    flag(
        "log-level",
        "info",
        Text,
        Served,
        "debug, info, warn or error",
    ),
    flag(
        "log-format",
        "",
        Text,
        Served,
        "json or console (default: json as etcd, else console)",
    ),
    flag(
        "log-outputs",
        "default",
        Text,
        Served,
        "default, stderr, stdout or a file",
    ),
    flag(
        "logger",
        "zap",
        Text,
        Accepted,
        "zap is the only name etcd knows",
    ),
    // etcd's tuning of parts that do not exist here.
    flag("pre-vote", "true", Bool, Accepted, "always on"),
    flag("initial-election-tick-advance", "true", Bool, Accepted, ""),
    flag("max-snapshots", "5", Number, Accepted, ""),
    flag("max-wals", "5", Number, Accepted, ""),
    flag("backend-batch-interval", "0", Text, Accepted, ""),
    flag("backend-batch-limit", "0", Number, Accepted, ""),
    flag("backend-bbolt-freelist-type", "map", Text, Accepted, ""),
    flag(
        "bootstrap-defrag-threshold-megabytes",
        "0",
        Number,
        Accepted,
        "",
    ),
    flag("compaction-batch-limit", "1000", Number, Accepted, ""),
    flag("compaction-sleep-interval", "10ms", Text, Accepted, ""),
    flag("raft-read-timeout", "5s", Text, Accepted, ""),
    flag("raft-write-timeout", "5s", Text, Accepted, ""),
    flag(
        "grpc-keepalive-min-time",
        "5s",
        Text,
        Accepted,
        "pings are never punished",
    ),
    flag("grpc-keepalive-interval", "2h0m0s", Text, Accepted, ""),
    flag("grpc-keepalive-timeout", "20s", Text, Accepted, ""),
    flag(
        "socket-reuse-port",
        "false",
        Bool,
        Accepted,
        "always on between our own threads",
    ),
    flag("socket-reuse-address", "false", Bool, Accepted, ""),
    flag("memory-mlock", "false", Bool, Accepted, ""),
    flag("enable-pprof", "false", Bool, Accepted, ""),
    flag("warning-apply-duration", "100ms", Text, Accepted, ""),
    flag(
        "warning-unary-request-duration",
        "300ms",
        Text,
        Accepted,
        "",
    ),
    flag("v2-deprecation", "", Text, Accepted, ""),
    flag("downgrade-check-time", "5s", Text, Accepted, ""),
    flag("compact-hash-check-time", "1m0s", Text, Accepted, ""),
    flag(
        "watch-progress-notify-interval",
        "10m0s",
        Text,
        Accepted,
        "watches are not served yet",
    ),
    flag(
        "bcrypt-cost",
        "10",
        Number,
        Accepted,
        "auth is not served yet",
    ),
    flag(
        "auth-token-ttl",
        "300",
        Number,
        Accepted,
        "auth is not served yet",
    ),
    flag(
        "enable-grpc-gateway",
        "true",
        Bool,
        Accepted,
        "the JSON gateway is not served yet",
    ),
    flag(
        "metrics",
        "basic",
        Text,
        Accepted,
        "all metrics are always served",
    ),
    flag(
        "client-cert-file",
        "",
        Text,
        Accepted,
        "requests over HTTP do not leave the process",
    ),
    flag("client-key-file", "", Text, Accepted, ""),
    flag(
        "peer-skip-client-san-verification",
        "false",
        Bool,
        Accepted,
        "callers are known by CA, not by address",
    ),
    flag("enable-v2", "false", Bool, NotServed, ""),
    // What users rely on and this version does not do: silently ignoring it would be a lie.
    flag("wal-dir", "", Text, NotServed, ""),
    flag("config-file", "", Text, NotServed, ""),
    flag("listen-client-http-urls", "", Text, NotServed, ""),
    flag("force-new-cluster", "false", Bool, NotServed, ""),
    flag("unsafe-no-fsync", "false", Bool, NotServed, ""),
    flag("feature-gates", "", Text, NotServed, ""),
    flag("corrupt-check-time", "0s", Text, NotServed, ""),
    flag("discovery", "", Text, NotServed, ""),
    flag("discovery-srv", "", Text, NotServed, ""),
    flag("discovery-endpoints", "", Text, NotServed, ""),
    flag("auto-tls", "false", Bool, NotServed, ""),
    flag("peer-auto-tls", "false", Bool, NotServed, ""),
    flag("self-signed-cert-validity", "1", Number, Accepted, ""),
    flag("cors", "*", Text, NotServed, ""),
    flag("host-whitelist", "*", Text, NotServed, ""),
    flag("auth-token", "simple", Text, NotServed, ""),
    flag("enable-log-rotation", "false", Bool, NotServed, ""),
    flag("enable-distributed-tracing", "false", Bool, NotServed, ""),
];
